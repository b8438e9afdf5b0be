"""The daemon: a keeper with doors. The only package that knows FastAPI."""
