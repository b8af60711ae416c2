"""Online drift detection: one file a method, each with its source; usable on arrays without Kafka."""
