"""Promises of the wire format, the producer and the processing loop."""
