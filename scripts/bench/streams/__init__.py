"""What the benchmark of text engines asks, and whom: transformers in a process, and our server over HTTP."""
