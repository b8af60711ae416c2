"""Labels and predictions of a model in windows: metrics per version, concept drift, estimates."""
