"""Tuning of encoders and rerankers: batches of pairs, losses, hard negatives, synthetic queries, measuring."""
