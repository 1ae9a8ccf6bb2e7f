"""Django's SQLite backend, for many short write transactions side by side."""
