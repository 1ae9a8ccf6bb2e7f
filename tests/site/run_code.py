"""A program that runs the Python code in its argument."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time

if __name__ == "__main__":
    exec(sys.argv[1], {"atexit": atexit, "os": os, "signal": signal, "time": time})
