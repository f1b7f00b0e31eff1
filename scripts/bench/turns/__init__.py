"""What the benchmarks share: variants that take turns in processes of their own, and how they are measured."""
