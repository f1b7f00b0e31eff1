"""Job schemas and their loading."""
