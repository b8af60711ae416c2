"""A file a promise."""
