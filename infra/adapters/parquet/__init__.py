"""The offline store of labelled examples: Parquet files in a folder per model."""
