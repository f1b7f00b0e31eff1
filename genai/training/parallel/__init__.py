"""Training on many ranks: one process a device, each with its rows of the global batch.

Losses are divided by the trained tokens of the global batch, so gradients are summed over ranks, never averaged.
"""
