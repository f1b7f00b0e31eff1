"""What the benchmark of embedding models trains on, and how it is trained: here and by sentence-transformers."""
