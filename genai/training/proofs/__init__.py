"""Proofs on the real model and the real data, before step 1: labels, packing, accumulation, export, disk."""
