"""Adapters: the ports of `mlops_core` kept by real systems (MLflow, Parquet files, folders).

An adapter says what went wrong in the house's own errors: `Unavailable` where asking again can help,
`NotFound` where it can't. It decides nothing.
"""
