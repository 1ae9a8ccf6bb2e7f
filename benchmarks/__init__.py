"""Reproducible benchmarks: `make bench`, or `python -m benchmarks fan_out --rounds 3`."""

import sys
from pathlib import Path

# The Python client is a separate distribution, which need not be installed here.
sys.path.append(str(Path(__file__).resolve().parent.parent / "clients" / "python"))
