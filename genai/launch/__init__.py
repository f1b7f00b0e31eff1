"""Starts jobs in processes of their own. Nothing here imports torch."""
