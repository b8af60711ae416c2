"""Adapters implement the ports of `mlops_core` (MLflow, Parquet files, folders, Kafka, memory).

An adapter raises the errors of `mlops_core.errors`: `Unavailable` where a retry can help,
`NotFound` where it can't. It decides nothing.
"""
