"""What `clients/generate.py` writes."""
