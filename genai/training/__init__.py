"""Training: the loop, what it computes with, and what it predicts beforehand."""
