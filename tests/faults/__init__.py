"""Deliberate faults in the code, each with a test that must fail: `python -m tests.faults`."""
