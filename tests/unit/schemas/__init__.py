"""Promises of the data types and settings."""
