"""Promises of the decisions: drift, training, selection, rollouts."""
