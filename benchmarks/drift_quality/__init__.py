"""How good drift detection is, on streams whose changes are known: `make bench-drift`."""
