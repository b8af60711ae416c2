"""MLflow: reading models over REST, registering them with its client, running its server on a laptop."""
