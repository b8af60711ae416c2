"""Fixtures that everybody shares: brokers, a real MLflow server, seeds."""

pytest_plugins = ["tests.broker_fixtures", "tests.mlflow_fixtures"]
