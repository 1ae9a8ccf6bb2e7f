"""Faults put into the delivery on purpose, each with a test that must notice: `python -m tests.faults`."""
