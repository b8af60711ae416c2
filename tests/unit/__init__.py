"""Promises of pure code and of code on files: no broker, no browser, no MLflow server."""
