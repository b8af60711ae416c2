"""Promises kept by real parts: brokers, MLflow, child processes, a browser."""
