"""What is decided: drift, retraining, the gate, rollouts.

Pure code. No Kafka, Kubernetes, MLflow, clock, asyncio, logging or environment in here; time arrives as
an input, effects leave as values. What the outside must offer is declared in `ports`.
"""
