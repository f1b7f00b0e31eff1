"""Servers in front of an engine that answers at once, and who asks them: for scripts/bench/http.py."""
