"""The Llama architecture (arXiv:2302.13971, 2307.09288) in plain PyTorch: RMSNorm, RoPE, grouped queries, SwiGLU.

Parameters carry the names that transformers gives them (`model.layers.0.self_attn.q_proj.weight`), and every projection
is a module of its own. So a state dict is a Hugging Face state dict, a shard of a checkpoint is exported without being
taken apart, and a plan for tensor parallelism names the same modules for both models. One matrix for query, key and
value, or for gate and up, was measured too: it gains nothing on a CPU beyond noise, since the products are as large as
before.

Attention itself comes in as a function (`Attend`): what is quickest, and how documents in one row are kept apart, is
the trainer's business.

Shapes: B rows, S positions, D hidden size, H query heads, K key heads, E head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu
from torch.utils.checkpoint import checkpoint

from genai.models.llama.config import LlamaConfig
from genai.models.llama.initialize import init_weights
from genai.models.llama.rope import RopeTables, Rotation


class Attend(Protocol):
    """Causal attention over the positions of a row."""

    def __call__(
        self,
        query_BHSE: torch.Tensor,
        key_BKSE: torch.Tensor,
        value_BKSE: torch.Tensor,
        mask: torch.Tensor | None,
        /,
    ) -> torch.Tensor:
        """Softmax over scores scaled by E ** -0.5, applied to the values.

        Args:
            query_BHSE: (B, H, S, E), maybe a transposed view.
            key_BKSE: (B, K, S, E); query head h meets key head h // (H / K).
            value_BKSE: (B, K, S, E).
            mask: what the caller of the model gave, in whatever form this function understands.

        Returns:
            (B, S, H, E).
        """


Head = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From hidden states (B, S, D) and the head's weight (V, D) to what the forward pass shall return."""


def causal_attention(
    query_BHSE: torch.Tensor, key_BKSE: torch.Tensor, value_BKSE: torch.Tensor, mask: torch.Tensor | None, /
) -> torch.Tensor:
    """torch's own kernel: causal where `mask` is None, else a boolean (B, 1, S, S) that is True where one may look."""
    out_BHSE = scaled_dot_product_attention(
        query_BHSE, key_BKSE, value_BKSE, attn_mask=mask, is_causal=mask is None, enable_gqa=True
    )
    return out_BHSE.transpose(1, 2)


class RMSNorm(nn.Module):
    """Root mean square norm (arXiv:1910.07467), computed in the number format of its input, float32 in training."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, hidden_BSD: torch.Tensor) -> torch.Tensor:
        """The normed states in the number format of the products that follow: cast once, not at each of them."""
        # Sharded, the weight may come in bfloat16 to a stream in float32, for which torch has no fused kernel.
        weight = self.weight.to(hidden_BSD.dtype)
        normed_BSD = rms_norm(hidden_BSD, weight.shape, weight, self.eps)
        return normed_BSD.to(_product_dtype(hidden_BSD))


def _product_dtype(states: torch.Tensor) -> torch.dtype:
    device = states.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.head_size = config.head_size
        queries, keys = config.n_heads * config.head_size, config.kv_heads * config.head_size
        self.q_proj = nn.Linear(config.d_model, queries, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.d_model, keys, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.d_model, keys, bias=config.attention_bias)
        self.o_proj = nn.Linear(queries, config.d_model, bias=config.attention_bias)

    def forward(
        self, x_BSD: torch.Tensor, rotation: Rotation, mask: torch.Tensor | None, attend: Attend
    ) -> torch.Tensor:
        """Normed states (B, S, D) -> (B, S, D)."""
        # The number of heads is read off the product: under tensor parallelism it is this rank's share.
        heads = (-1, self.head_size)
        query_BSHE = rotation(self.q_proj(x_BSD).unflatten(-1, heads))
        key_BSKE = rotation(self.k_proj(x_BSD).unflatten(-1, heads))
        value_BSKE = self.v_proj(x_BSD).unflatten(-1, heads)
        out_BSHE = attend(query_BSHE.transpose(1, 2), key_BSKE.transpose(1, 2), value_BSKE.transpose(1, 2), mask)
        projected_BSD: torch.Tensor = self.o_proj(out_BSHE.flatten(2))
        return projected_BSD


class MLP(nn.Module):
    """SwiGLU (arXiv:2002.05202)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.d_model, config.d_ff, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.d_model, config.d_ff, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.d_ff, config.d_model, bias=config.mlp_bias)

    def forward(self, x_BSD: torch.Tensor) -> torch.Tensor:
        """Normed states (B, S, D) -> (B, S, D)."""
        out_BSD: torch.Tensor = self.down_proj(silu(self.gate_proj(x_BSD)) * self.up_proj(x_BSD))
        return out_BSD


class Block(nn.Module):
    """Attention and MLP, each added to the stream of hidden states."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = MLP(config)

    def forward(
        self, hidden_BSD: torch.Tensor, rotation: Rotation, mask: torch.Tensor | None, attend: Attend
    ) -> torch.Tensor:
        """Hidden states (B, S, D) -> (B, S, D)."""
        hidden_BSD = hidden_BSD + self.self_attn(self.input_layernorm(hidden_BSD), rotation, mask, attend)
        hidden_BSD = hidden_BSD + self.mlp(self.post_attention_layernorm(hidden_BSD))
        return hidden_BSD


class Decoder(nn.Module):
    """Embedding, blocks, last norm."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList([Block(config) for _ in range(config.n_layers)])
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.rope = RopeTables(config)
        self.recompute = False

    def forward(
        self, tokens_BS: torch.Tensor, position_ids_BS: torch.Tensor | None, mask: torch.Tensor | None, attend: Attend
    ) -> torch.Tensor:
        """Token ids (B, S) -> normed hidden states (B, S, D)."""
        hidden_BSD = self.embed_tokens(tokens_BS)
        rotation = self.rope(tokens_BS.shape[1], position_ids_BS, tokens_BS.device)
        for block in self.layers:
            if self.recompute and torch.is_grad_enabled():
                hidden_BSD = checkpoint(block, hidden_BSD, rotation, mask, attend, use_reentrant=False)
            else:
                hidden_BSD = block(hidden_BSD, rotation, mask, attend)
        normed_BSD: torch.Tensor = self.norm(hidden_BSD)
        return normed_BSD


class Llama(nn.Module):
    """A decoder with its head.

    Args:
        config: sizes.
        seed: of the fresh weights (see `init_weights`); None leaves them as torch makes them, for weights that are
            loaded afterwards and for the meta device.
    """

    supports_gradient_checkpointing = True

    def __init__(self, config: LlamaConfig, *, seed: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = None if config.tie_embeddings else nn.Linear(config.d_model, config.vocab_size, bias=False)
        if seed is not None:
            init_weights(self, seed=seed)

    def forward(
        self,
        tokens_BS: torch.Tensor,
        position_ids_BS: torch.Tensor | None = None,
        *,
        mask: torch.Tensor | None = None,
        attend: Attend = causal_attention,
        head: Head | None = None,
    ) -> torch.Tensor:
        """Logits (B, S, V), or what `head` makes of the last hidden states.

        A loss goes in as `head`, so that it is computed within the forward pass: a head that is sharded over ranks is
        whole there, and nowhere else.

        Args:
            tokens_BS: int64 (B, S).
            position_ids_BS: place of each token in its document; None where a row is one document.
            mask: handed to `attend`.
            attend: how attention is computed.
            head: from the hidden states and the head's weight to the result.
        """
        hidden_BSD = self.model(tokens_BS, position_ids_BS, mask, attend)
        weight_VD = self.get_output_embeddings().weight
        return nn.functional.linear(hidden_BSD, weight_VD) if head is None else head(hidden_BSD, weight_VD)

    # --- what the rest of genai asks of any model ---------------------------------------------------------------------

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of the tokens."""
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Linear | nn.Embedding:
        """The module that holds the head's weight: with tied embeddings the embedding itself."""
        return self.model.embed_tokens if self.lm_head is None else self.lm_head

    def gradient_checkpointing_enable(self, arguments: Mapping[str, Any] | None = None) -> None:
        """Keep each block's input only and compute the rest again in the backward pass; `arguments` are ignored."""
        self.model.recompute = True

    def disable_input_require_grads(self) -> None:
        """Nothing to do: the embedding's output never has a hook here."""

    def num_parameters(self) -> int:
        """Weights, tied ones once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def flops_per_token(self, seq_len: int) -> float:
        """FLOPs of one token of a training step, forward and backward, counted as in `genai.training.throughput`.

        Args:
            seq_len: length of a document.
        """
        lookup = 0 if self.lm_head is None else self.model.embed_tokens.weight.numel()
        config = self.config
        attention = 6 * config.n_layers * config.n_heads * config.head_size * seq_len
        return float(6 * (self.num_parameters() - lookup) + attention)
