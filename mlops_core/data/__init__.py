"""Columns of values: how they are encoded for a model, and what they looked like at training time."""
