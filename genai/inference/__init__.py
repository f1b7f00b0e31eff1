"""Text engines: prompts in, tokens out, many answers at a time; and encoders and rerankers, batched across requests."""
