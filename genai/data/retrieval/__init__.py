"""Queries and what answers them: read, made, split by document."""
