"""The client of Mahavishnu."""
