"""Between the processes that answer HTTP and the one that computes: a Unix socket, frames of msgpack, the records of
`genai.models.generation` as they are.
"""
