"""Raw text anywhere to MDS shards: inputs are divided into parts, parts become shards in worker processes, and an index
written last makes them a data set.
"""
