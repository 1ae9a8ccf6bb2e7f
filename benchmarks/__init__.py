"""Figures a stranger can reproduce: `make bench`, or `python -m benchmarks fan_out --rounds 3`."""
