"""Benchmarks: `speed`, `drift_quality` and `loop_quality`. Not part of the wheel."""
