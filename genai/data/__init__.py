"""Rows from files to batches: reading, formats, splits, checks, labels, the tokenised cache, packing."""
