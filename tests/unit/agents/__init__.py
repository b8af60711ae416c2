"""Promises of the agents: a chunk of records in, events out."""
