"""The sizes of a Llama, and the same in the words of a Hugging Face config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genai.errors import UsageError

ROPE_SCALING_KEYS = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
"""Kinds of RoPE scaling (`rope_type`), and what each needs beside its name."""

_PLAIN_VALUES = {"hidden_act": "silu", "attention_dropout": 0.0, "quantization_config": None}
"""Keys of a config.json that must be absent or have this value."""


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """The shape of one model. A wrong one raises UsageError, naming the key."""

    vocab_size: int
    """Rows of the embedding."""
    d_model: int
    """Width of the hidden states."""
    n_layers: int
    """Decoder blocks."""
    n_heads: int
    """Query heads."""
    n_kv_heads: int | None = None
    """Key and value heads (grouped-query attention, arXiv:2305.13245); None for as many as query heads."""
    d_ff: int
    """Width of the gated MLP between its matrices."""
    max_seq_len: int = 2048
    """Longest row that the model is trained to read."""
    head_dim: int | None = None
    """Width of a head; None for d_model / n_heads."""
    rope_theta: float = 10000.0
    """Base of the rotary frequencies."""
    rope_scaling: Mapping[str, Any] | None = None
    """How they are stretched: `rope_type` (linear, dynamic or llama3) and its numbers; None for not at all."""
    norm_eps: float = 1e-5
    """Added to the mean square in RMSNorm."""
    tie_embeddings: bool = False
    """Use the embedding as the head."""
    attention_bias: bool = False
    """Biases in the four projections of attention."""
    mlp_bias: bool = False
    """Biases in the three projections of the MLP."""
    init_std: float = 0.02
    """Standard deviation of fresh weights; see `init_weights`."""

    def __post_init__(self) -> None:
        """Raise UsageError where the sizes do not fit together."""
        for name in ("vocab_size", "d_model", "n_layers", "n_heads", "d_ff", "max_seq_len", "kv_heads", "head_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}", where="model")
        if self.d_model % self.n_heads:
            raise UsageError(f"d_model {self.d_model} is no multiple of n_heads {self.n_heads}", where="model")
        if self.n_heads % self.kv_heads:
            raise UsageError(f"n_heads {self.n_heads} is no multiple of n_kv_heads {self.kv_heads}", where="model")
        if self.head_size % 2:
            raise UsageError(f"heads are {self.head_size} wide, and RoPE turns pairs", where="model", fix="even widths")
        _check_rope_scaling(self.rope_scaling)

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_size(self) -> int:
        """Width of a head."""
        return self.d_model // self.n_heads if self.head_dim is None else self.head_dim

    @classmethod
    def from_hf(cls, values: Mapping[str, Any], *, where: str | None = None) -> LlamaConfig:
        """The sizes that a config.json names.

        Args:
            values: the parsed file; `rope_parameters` (transformers 5) and `rope_theta` with `rope_scaling` (before)
                are both understood.
            where: the file, for messages.

        Raises:
            UsageError: it is no Llama, or has something that this model does not do.
        """
        _check_family(values, where)
        rope = _rope_of(values)
        theta = rope.pop("rope_theta", None) or 10000.0
        return cls(
            vocab_size=_needed(values, "vocab_size", where),
            d_model=_needed(values, "hidden_size", where),
            n_layers=_needed(values, "num_hidden_layers", where),
            n_heads=_needed(values, "num_attention_heads", where),
            n_kv_heads=values.get("num_key_value_heads"),
            d_ff=_needed(values, "intermediate_size", where),
            max_seq_len=values.get("max_position_embeddings", 2048),
            head_dim=values.get("head_dim"),
            rope_theta=float(theta),
            rope_scaling=rope if rope.get("rope_type", "default") != "default" else None,
            norm_eps=float(values.get("rms_norm_eps", 1e-6)),
            tie_embeddings=bool(values.get("tie_word_embeddings", False)),
            attention_bias=bool(values.get("attention_bias", False)),
            mlp_bias=bool(values.get("mlp_bias", False)),
            init_std=float(values.get("initializer_range", 0.02)),
        )

    def to_hf(self) -> dict[str, Any]:
        """The config.json of the same model as a `LlamaForCausalLM`, readable by transformers before and after 5."""
        scaling = dict(self.rope_scaling) if self.rope_scaling else None
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.d_model,
            "intermediate_size": self.d_ff,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_size,
            "hidden_act": "silu",
            "max_position_embeddings": self.max_seq_len,
            "initializer_range": self.init_std,
            "rms_norm_eps": self.norm_eps,
            "tie_word_embeddings": self.tie_embeddings,
            "attention_bias": self.attention_bias,
            "attention_dropout": 0.0,
            "mlp_bias": self.mlp_bias,
            "rope_theta": self.rope_theta,
            "rope_scaling": scaling,
            "rope_parameters": {"rope_type": "default", **(scaling or {}), "rope_theta": self.rope_theta},
        }


def _check_rope_scaling(scaling: Mapping[str, Any] | None) -> None:
    if scaling is None:
        return
    kind = scaling.get("rope_type")
    if kind not in ROPE_SCALING_KEYS:
        known = ", ".join(ROPE_SCALING_KEYS)
        raise UsageError(f"rope_type {kind!r} is not known", where="model.rope_scaling", fix=f"one of {known}")
    keys = ROPE_SCALING_KEYS[kind]
    if missing := [key for key in keys if not scaling.get(key)]:
        raise UsageError(f"rope_type {kind} needs {', '.join(missing)}", where="model.rope_scaling")
    if unknown := sorted(set(scaling) - {"rope_type", *keys}):
        raise UsageError(f"rope_type {kind} knows no {', '.join(unknown)}", where="model.rope_scaling")


def _check_family(values: Mapping[str, Any], where: str | None) -> None:
    kind = values.get("model_type")
    if kind != "llama":
        raise UsageError(f"the model type is {kind!r}, not 'llama'", where=where, fix="load it with name: hf_causal_lm")
    for key, plain in _PLAIN_VALUES.items():
        if values.get(key, plain) not in (plain, None):
            raise UsageError(f"the native Llama knows no {key}: {values[key]!r}", where=where)


def _needed(values: Mapping[str, Any], key: str, where: str | None) -> int:
    if not isinstance(values.get(key), int):
        raise UsageError(f"{key} must be a whole number, not {values.get(key)!r}", where=where)
    return int(values[key])


def _rope_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """`rope_theta`, `rope_type` and the numbers of the type, from either of the two ways of writing them."""
    rope = dict(values.get("rope_scaling") or values.get("rope_parameters") or {})
    kind = rope.pop("type", None)
    rope.setdefault("rope_type", kind or "default")
    if "rope_theta" not in rope:
        rope["rope_theta"] = (values.get("rope_parameters") or {}).get("rope_theta", values.get("rope_theta"))
    if rope.get("partial_rotary_factor") == 1:
        del rope["partial_rotary_factor"]
    return rope
