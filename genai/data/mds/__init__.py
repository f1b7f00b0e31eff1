"""Shards in the MDS format of mosaicml-streaming 0.13, read and written without it.

A data set is a folder with an `index.json` that names the shards. `MDSWriter` writes one, `read_index` and
`read_samples` read it sample by sample, `token_block` gives all rows of a shard of tokens at once.
"""

from genai.data.mds.blocks import TokenBlock, token_block
from genai.data.mds.index import INDEX, read_index, write_index
from genai.data.mds.shard import Shard, map_file, read_samples, read_shard
from genai.data.mds.shard_info import FileInfo, ShardInfo
from genai.data.mds.writer import MDSWriter

__all__ = [
    "INDEX",
    "FileInfo",
    "MDSWriter",
    "Shard",
    "ShardInfo",
    "TokenBlock",
    "map_file",
    "read_index",
    "read_samples",
    "read_shard",
    "token_block",
    "write_index",
]
