"""Reproducible benchmarks: `make bench`, or `python -m benchmarks fan_out --rounds 3`."""
