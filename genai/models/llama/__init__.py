"""A lean Llama: built for training from scratch, and read from and written to the folders that transformers uses.

Start with `Llama`, a `LlamaConfig`, and `load_llama` / `save_llama`; `to_transformers` gives the same weights as a
`LlamaForCausalLM`.
"""

from genai.models.llama.config import LlamaConfig
from genai.models.llama.files import load_llama, save_llama, to_transformers
from genai.models.llama.initialize import init_weights
from genai.models.llama.model import Attend, Block, Llama, causal_attention

__all__ = [
    "Attend",
    "Block",
    "Llama",
    "LlamaConfig",
    "causal_attention",
    "init_weights",
    "load_llama",
    "save_llama",
    "to_transformers",
]
