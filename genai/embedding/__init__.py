"""Encoders, which turn texts into vectors, and rerankers, which read a query and a text together."""
