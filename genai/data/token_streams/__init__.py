"""Token shards as training batches: the same order for any number of ranks, from a disk or from a bucket.

`TokenStream` is for training, `token_eval_batches` for one pass in order. How the order comes about stands in
`order.py`, how shards come here in `shard_pool.py`.
"""

from genai.data.token_streams.evaluation import token_eval_batches
from genai.data.token_streams.order import SHUFFLE_ALGOS
from genai.data.token_streams.specs import StreamSpec
from genai.data.token_streams.stream import TokenStream

__all__ = ["SHUFFLE_ALGOS", "StreamSpec", "TokenStream", "token_eval_batches"]
