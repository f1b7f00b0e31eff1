"""A lean pass through Llama, Mistral, Qwen2 and Qwen3 models: no modules, products fused, a whole step at once.

Weights come from a loaded model of transformers and are laid out anew (see `linear`), a layer at a time, so that few
are ever there twice. Numbers agree with transformers' within rounding.

Shapes: T tokens of a step, laid end to end; D d_model; F width of the MLP; H query heads; K heads of keys and values; E
width of a head; R rows of which logits are wanted; V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from genai.inference.adapters import AdapterBank
from genai.inference.interfaces import Step
from genai.inference.paged_attention import PagedCache, StepTensors
from genai.inference.runners.linear import Linear, PlainLinear, Precision, make_linear

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
_ROPE_TYPES = frozenset({"default", "linear", "llama3", "yarn"})
"""Kinds whose frequencies do not change with the length of a text."""


def supports(config: PretrainedConfig) -> bool:
    """Whether `LlamaRunner` computes what transformers computes for a model with this config."""
    values: Any = config
    rope = getattr(values, "rope_parameters", None) or {}
    return (
        values.model_type in _FAMILIES
        and values.hidden_act == "silu"
        and rope.get("rope_type", "default") in _ROPE_TYPES
        and rope.get("partial_rotary_factor", 1.0) == 1.0
        and getattr(values, "quantization_config", None) is None
        and not _slides(values)
    )


def activation_dtype(precision: Precision, model_dtype: torch.dtype, device: torch.device | str) -> torch.dtype:
    """The number format between the layers, which is also the one for adapters.

    On a CPU products in 8 bits take and give float32.
    """
    return torch.float32 if precision == "int8" and torch.device(device).type == "cpu" else model_dtype


class LlamaRunner:
    """Meets `genai.inference.interfaces.Runner`.

    Args:
        model: with its weights in bfloat16 or float32; is taken apart and cannot be used afterwards.
        config: the model's; see `supports`.
        precision: int8 turns the weights of all products into 8 bits, the others leave them as they are.
        adapters: what may change the linear layers; of the number format that `activation_dtype` gives.
        compile: what lies between the products is compiled (needs a C++ compiler on a CPU).
        device: where the weights are.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: PretrainedConfig,
        *,
        precision: Precision,
        adapters: AdapterBank | None = None,
        compile: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        values: Any = config
        self.max_positions = int(values.max_position_embeddings)
        self._dtype = activation_dtype(precision, model.dtype, device)
        self._cache_dtype = model.dtype
        self._device = torch.device(device)
        self._adapters = adapters
        self._num_heads = int(values.num_attention_heads)
        self._num_kv_heads = int(values.num_key_value_heads)
        self._head_dim = int(getattr(values, "head_dim", None) or values.hidden_size // values.num_attention_heads)
        self._scale = self._head_dim**-0.5
        self._eps = float(values.rms_norm_eps)
        self._between = _compiled(_PLAIN) if compile else _PLAIN
        self._frequencies, self._rope_scale = _frequencies(model, self._device)
        self._layers: list[_Layer] = []
        self._take_weights(model, precision)
        self._cache: PagedCache | None = None

    @property
    def kv_bytes_per_token(self) -> int:
        """Of one token in all layers, keys and values."""
        return 2 * len(self._layers) * self._num_kv_heads * self._head_dim * self._cache_dtype.itemsize

    def allocate(self, num_blocks: int, block_size: int) -> None:
        """Make the cache anew, empty."""
        self._cache = None  # let go of the old one first
        self._cache = PagedCache(
            num_layers=len(self._layers),
            num_blocks=num_blocks,
            block_size=block_size,
            num_kv_heads=self._num_kv_heads,
            head_dim=self._head_dim,
            dtype=self._cache_dtype,
            device=self._device,
        )

    def forward(self, step: Step) -> Tensor:
        """(R, V) float32; see `Runner.forward`."""
        assert self._cache is not None, "allocate comes first"
        # Made outside inference mode, so that whoever gets them may change them in place.
        tensors = StepTensors(step, self._cache)
        logits_RV = torch.empty(len(tensors.logits_rows_R), self.vocab_size, device=self._device)
        with torch.inference_mode():
            hidden_RD = self._read(step, tensors)
            if len(hidden_RD):
                logits_RV.copy_(self._head(self._between.norm(hidden_RD, self._norm_D, self._eps)))
        return logits_RV

    def close(self) -> None:
        """Let go of weights and cache."""
        self._cache = None
        self._layers = []
        del self._head, self._embedding_VD

    # --- reading a step -----------------------------------------------------------------------------------------------

    def _read(self, step: Step, tensors: StepTensors) -> Tensor:
        """(R, D) after the last layer."""
        if self._adapters is not None:
            self._adapters.begin(step)
        x_TD = F.embedding(tensors.ids_T, self._embedding_VD).to(self._dtype)
        turn = self._turn(tensors.positions_T)
        for layer in self._layers[:-1]:
            x_TD = self._mlp(layer, x_TD, self._attention(layer, x_TD, tensors, turn))
        layer, rows_R = self._layers[-1], tensors.logits_rows_R
        out_TC = self._attention(layer, x_TD, tensors, turn)
        if not math.isfinite(x_TD.sum(dtype=torch.float32)):
            tensors.clear(~x_TD.isfinite().all(-1))
        if self._is_adapted:  # adapters know their rows among T only
            return self._mlp(layer, x_TD, out_TC)[rows_R]
        return self._mlp(layer, x_TD[rows_R], out_TC[rows_R]) if len(rows_R) else x_TD[:0]

    def _attention(self, layer: _Layer, x_TD: Tensor, tensors: StepTensors, turn: _Turn) -> Tensor:
        """(T, H * E): what the heads found, before it is projected."""
        h_TD = self._between.norm(x_TD, layer.attention_norm_D, self._eps)
        qkv_TX = self._product(layer.qkv, h_TD)
        heads, kv = self._num_heads, self._num_kv_heads
        qkv_TXE = qkv_TX.view(len(x_TD), heads + 2 * kv, self._head_dim)
        qk_TXE = qkv_TXE[:, : heads + kv]
        if layer.qk_norm_XE is not None:
            qk_TXE = self._between.norm_heads(qk_TXE, layer.qk_norm_XE, self._eps)
        qk_TXE = self._between.rotate(qk_TXE, *turn)
        query_THE, key_TKE, value_TKE = qk_TXE[:, :heads], qk_TXE[:, heads:], qkv_TXE[:, heads + kv :]
        return tensors.attend(layer.number, query_THE, key_TKE, value_TKE, self._scale).flatten(1)

    def _mlp(self, layer: _Layer, x_TD: Tensor, out_TC: Tensor) -> Tensor:
        """(T, D): the rest of the layer, from the heads' finds on."""
        x_TD = x_TD + self._product(layer.out, out_TC)
        h_TD = self._between.norm(x_TD, layer.mlp_norm_D, self._eps)
        gated_TF = self._between.gate(self._product(layer.gate_up, h_TD))
        return x_TD + self._product(layer.down, gated_TF)

    def _product(self, fused: _Fused, x_TI: Tensor) -> Tensor:
        y_TO = fused.linear(x_TI)
        if self._is_adapted:
            assert self._adapters is not None
            for name, columns in fused.columns:
                self._adapters.apply(name, x_TI, y_TO[:, columns])
        return y_TO

    @property
    def _is_adapted(self) -> bool:
        return self._adapters is not None and self._adapters.active

    def _turn(self, positions_T: Tensor) -> _Turn:
        angles_T1F = (positions_T.float()[:, None] * self._frequencies)[:, None]
        cos, sin = (angles_T1F.cos() * self._rope_scale, angles_T1F.sin() * self._rope_scale)
        return _Turn(torch.cat([cos, cos], -1).to(self._dtype), torch.cat([-sin, sin], -1).to(self._dtype))

    # --- weights ------------------------------------------------------------------------------------------------------

    def _take_weights(self, model: Any, precision: Precision) -> None:
        with torch.inference_mode():
            self._layers = [self._layer(number, part, precision) for number, part in enumerate(model.model.layers)]
            self._embedding_VD = model.model.embed_tokens.weight.detach()
            self._norm_D = model.model.norm.weight.detach().to(self._dtype)
            self._head = make_linear(model.lm_head.weight.detach(), None, precision)
        self.vocab_size = int(model.lm_head.weight.shape[0])
        fused = [part for layer in self._layers for part in (layer.qkv, layer.out, layer.gate_up, layer.down)]
        shared = isinstance(self._head, PlainLinear) and model.lm_head.weight is model.model.embed_tokens.weight
        products = sum(part.linear.num_bytes for part in fused) + (0 if shared else self._head.num_bytes)
        self.weight_bytes = self._embedding_VD.nbytes + products

    def _layer(self, number: int, part: Any, precision: Precision) -> _Layer:
        name, attention, mlp = f"model.layers.{number}", part.self_attn, part.mlp
        qk_norm_XE = None
        if hasattr(attention, "q_norm"):
            weights = [*[attention.q_norm.weight] * self._num_heads, *[attention.k_norm.weight] * self._num_kv_heads]
            qk_norm_XE = torch.stack(weights).to(self._dtype)

        def fuse(where: str, owner: Any, *names: str) -> _Fused:
            return _fuse([(f"{name}.{where}.{one}", getattr(owner, one)) for one in names], precision, self._dtype)

        return _Layer(
            number=number,
            attention_norm_D=part.input_layernorm.weight.detach().to(self._dtype),
            qkv=fuse("self_attn", attention, "q_proj", "k_proj", "v_proj"),
            qk_norm_XE=qk_norm_XE,
            out=fuse("self_attn", attention, "o_proj"),
            mlp_norm_D=part.post_attention_layernorm.weight.detach().to(self._dtype),
            gate_up=fuse("mlp", mlp, "gate_proj", "up_proj"),
            down=fuse("mlp", mlp, "down_proj"),
        )


class _Turn(NamedTuple):
    """How far heads are turned at the places of a step: x * cos + roll(x) * sin."""

    cos_T1E: Tensor
    sin_T1E: Tensor
    """Negative in the first half."""


class _Fused(NamedTuple):
    """Linear layers of the same input, as one product."""

    linear: Linear
    columns: Sequence[tuple[str, slice]]
    """Name of each in the model of transformers, and its columns."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """Weights of a decoder layer."""

    number: int
    attention_norm_D: Tensor
    qkv: _Fused
    qk_norm_XE: Tensor | None
    """A row for each head of queries, then of keys."""
    out: _Fused
    mlp_norm_D: Tensor
    gate_up: _Fused
    down: _Fused


def _fuse(named: Sequence[tuple[str, Any]], precision: Precision, dtype: torch.dtype) -> _Fused:
    """One product of several layers, whose own weights are let go."""
    layers = [layer for _, layer in named]
    widths = [layer.out_features for layer in layers]
    weight_OI = torch.cat([layer.weight.detach() for layer in layers]) if len(layers) > 1 else layers[0].weight.detach()
    bias_O = None
    if any(layer.bias is not None for layer in layers):
        biases = [
            weight_OI.new_zeros(width) if layer.bias is None else layer.bias.detach()
            for layer, width in zip(layers, widths, strict=True)
        ]
        bias_O = torch.cat(biases).to(dtype)
    fused = make_linear(weight_OI, bias_O, precision)
    for layer in layers:
        layer.weight.data = layer.weight.data.new_empty(0)
    stops = [sum(widths[: at + 1]) for at in range(len(widths))]
    columns = [slice(stop - width, stop) for stop, width in zip(stops, widths, strict=True)]
    return _Fused(fused, [(name, part) for (name, _), part in zip(named, columns, strict=True)])


def _frequencies(model: Any, device: torch.device) -> tuple[Tensor, float]:
    """(E / 2,) float32, and what cosines and sines are multiplied by; computed anew, as a model in bfloat16 may hold
    rounded ones.
    """
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rotary, kind = model.model.rotary_emb, model.config.rope_parameters["rope_type"]
    compute = rotary.compute_default_rope_parameters if kind == "default" else ROPE_INIT_FUNCTIONS[kind]
    frequencies, scale = compute(model.config, device=device)
    return frequencies.to(device, torch.float32), float(scale)


def _slides(config: Any) -> bool:
    """Whether a layer sees less than all tokens before."""
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return True
    window = getattr(config, "sliding_window", None) if config.model_type == "mistral" else None
    return window is not None and window < config.max_position_embeddings


# --- what lies between the products -----------------------------------------------------------------------------------


class _Between(NamedTuple):
    """Functions of each number or row by itself."""

    norm: Callable[[Tensor, Tensor, float], Tensor]
    norm_heads: Callable[[Tensor, Tensor, float], Tensor]
    rotate: Callable[[Tensor, Tensor, Tensor], Tensor]
    gate: Callable[[Tensor], Tensor]


def _norm(x_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """RMSNorm (arXiv:1910.07467)."""
    return F.rms_norm(x_TD, x_TD.shape[-1:], weight_D, eps)


def _norm_heads(x_TXE: Tensor, weight_XE: Tensor, eps: float) -> Tensor:
    """RMSNorm of each head, with weights of its own."""
    return F.rms_norm(x_TXE, x_TXE.shape[-1:], None, eps) * weight_XE


def _rotate(x_TXE: Tensor, cos_T1E: Tensor, sin_T1E: Tensor) -> Tensor:
    """RoPE (arXiv:2104.09864), pairs half a head apart."""
    return torch.addcmul(x_TXE * cos_T1E, x_TXE.roll(x_TXE.shape[-1] // 2, -1), sin_T1E)


def _gate(gate_up_TX: Tensor) -> Tensor:
    """SwiGLU (arXiv:2002.05202): silu of the first half times the second."""
    gate_TF, up_TF = gate_up_TX.chunk(2, -1)
    return F.silu(gate_TF).mul_(up_TF)


_PLAIN = _Between(norm=_norm, norm_heads=_norm_heads, rotate=_rotate, gate=_gate)


def _compiled(between: _Between) -> _Between:
    return _Between(*(torch.compile(function, dynamic=True, fullgraph=True) for function in between))
