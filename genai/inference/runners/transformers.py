"""Any causal language model of transformers, reading steps: its own layers, with our attention over blocks.

The tokens of a step lie end to end in one row with their places beside them. transformers hands queries, keys and
values to the attention that is registered under the name `IMPLEMENTATION`, which writes them into the cache. A model
with more to it than that (recurrent state, attention of its own, places that are counted from a mask) is refused when
it is opened: `survey` looks at one pass, and then logits are compared with those of the model's own pass.

Shapes: T tokens of a step, laid end to end; H query heads; K heads of keys and values; E width of a head, F of a value;
R rows of which logits are wanted; V vocabulary.
"""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from genai.errors import UsageError
from genai.inference.adapters import AdapterBank
from genai.inference.interfaces import Step
from genai.inference.paged_attention import PagedCache, StepTensors
from genai.inference.probing import probe_ids
from genai.inference.runners.linear import Precision, make_linear
from genai.inference.runners.llama import activation_dtype
from genai.models.quiet import quiet_transformers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

IMPLEMENTATION = "genai_paged"
"""Name in transformers' attention registry."""

_NOT_DONE = ("s_aux", "position_bias", "head_mask", "layer_head_mask", "indices", "block_mask")
"""Arguments that models give their attention and ours knows nothing of."""
_LENGTH_DEPENDENT = ("dynamic", "longrope")
"""Rotary embeddings that change for all tokens when a sequence grows beyond the original context."""
_OWN_STATE = ("linear_attention", "mamba", "recurrent", "conv", "chunked_attention", "compressed", "hybrid")


# --- attention --------------------------------------------------------------------------------------------------------


class _Attention(Protocol):
    """What is behind the registered name while a model runs."""

    def attend(self, query_THE: Tensor, key_TKE: Tensor, value_TKF: Tensor, asked: _Asked) -> Tensor:
        """(T, H, F)."""


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """How one layer wants its attention."""

    scale: float
    window: int | None
    softcap: float | None
    unknown: tuple[str, ...]
    """Further wishes that we cannot meet."""


_running = threading.local()
"""`attention`: the one of the model that runs in this thread."""


@cache
def _register() -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    # No mask function goes with it: transformers then makes no masks at all.
    ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, _attention)


@contextmanager
def _attending(attention: _Attention) -> Iterator[None]:
    _running.attention = attention
    try:
        yield
    finally:
        _running.attention = None


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query (1, H, T, E), key and value (1, K, T, E) -> (1, T, H, E)."""
    del attention_mask
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    unknown = [name for name in _NOT_DONE if kwargs.get(name) is not None]
    asked = _Asked(
        scale=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        window=sliding_window,
        softcap=softcap,
        unknown=tuple(unknown if causal else [*unknown, "attention to later tokens"]),
    )
    attention: _Attention = _running.attention
    # Rotary embeddings may leave float32 behind; the values show the number format of the products.
    query_THE, key_TKE = (tensor[0].transpose(0, 1).to(value.dtype) for tensor in (query, key))
    return attention.attend(query_THE, key_TKE, value[0].transpose(0, 1), asked)[None], None


class _StepAttention:
    """One step's attention over the cache; layers are told apart by their order."""

    def __init__(self, tensors: StepTensors, widths: Sequence[int]) -> None:
        self._tensors = tensors
        self._widths = widths
        self._layer = 0
        self.broken_T: Tensor | None = None
        """Which tokens have no numbers, where any has none."""

    def attend(self, query_THE: Tensor, key_TKE: Tensor, value_TKF: Tensor, asked: _Asked) -> Tensor:
        layer, self._layer = self._layer, self._layer + 1
        width, value_width = self._widths[layer], value_TKF.shape[-1]
        out_THE = self._tensors.attend(
            layer,
            _widened(query_THE, width),
            _widened(key_TKE, width),
            _widened(value_TKF, width),
            asked.scale,
            window=asked.window,
            softcap=asked.softcap,
        )
        if self._layer == len(self._widths):
            # What is not finite in any layer is not in the last one either.
            self.broken_T = _broken(key_TKE, value_TKF)
        return out_THE[..., :value_width]


def _broken(key_TKE: Tensor, value_TKF: Tensor) -> Tensor | None:
    """(T,) bool: which tokens have no numbers; None where all have, which a sum tells soonest."""
    if math.isfinite(key_TKE.sum(dtype=torch.float32) + value_TKF.sum(dtype=torch.float32)):
        return None
    return ~(key_TKE.isfinite().flatten(1).all(-1) & value_TKF.isfinite().flatten(1).all(-1))


def _widened(tensor_THE: Tensor, width: int) -> Tensor:
    """With zeros behind, where keys and values differ in width (DeepSeek's latent attention)."""
    lacking = width - tensor_THE.shape[-1]
    return nn.functional.pad(tensor_THE, (0, lacking)) if lacking else tensor_THE


# --- what a model is like ---------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Survey:
    """What one short pass shows of a model."""

    num_kv_heads: list[int] = field(default_factory=list)
    """Of each layer with attention, in order."""
    widths: list[int] = field(default_factory=list)
    """Of its keys and values."""
    windows: list[int | None] = field(default_factory=list)
    """Tokens that it sees; None: all."""
    linear_shapes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Linear layers that read every token once, by name -> inputs and outputs; an adapter may change them."""
    keeps_logits: bool = False
    """Whether the model can be asked for logits of some tokens only."""
    unknown: set[str] = field(default_factory=set)
    """What layers ask of attention and ours does not know."""

    def attend(self, query_THE: Tensor, key_TKE: Tensor, value_TKF: Tensor, asked: _Asked) -> Tensor:
        """Write down what a layer asks for; what it gets back has the right shape and nothing else."""
        self.num_kv_heads.append(key_TKE.shape[1])
        self.widths.append(max(key_TKE.shape[-1], value_TKF.shape[-1]))
        self.windows.append(asked.window)
        self.unknown |= set(asked.unknown)
        return value_TKF.new_zeros(*query_THE.shape[:2], value_TKF.shape[-1])


@torch.inference_mode()
def survey(model: PreTrainedModel, *, name: str) -> Survey:
    """Look at a model while it reads a few tokens.

    Args:
        model: with its weights; its attention is replaced by ours.
        name: what the user calls it.

    Raises:
        UsageError: it cannot read steps; says why.
    """
    _check_class(type(model), model.config, name)
    _register()
    with quiet_transformers():  # a model that ignores this is found out by what follows
        model.set_attn_implementation(IMPLEMENTATION)
    found = Survey(keeps_logits="logits_to_keep" in inspect.signature(model.forward).parameters)
    ids_T = torch.tensor(probe_ids(vocab_size_of(model), 11), device=model.device)
    positions_T = torch.arange(len(ids_T), device=model.device)
    with _watching(model, found, len(ids_T)), _attending(found):
        _logits(model, ids_T, positions_T, positions_T[-1:], keeps_logits=found.keeps_logits)
    _check_survey(found, model, name)
    return found


def check_architecture(config: PretrainedConfig, *, name: str) -> None:
    """Refuse what can be told from the config alone, before weights are read.

    Raises:
        UsageError: the model cannot read steps; says why.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        _check_class(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], config, name)


def _check_class(kind: Any, config: PretrainedConfig, name: str) -> None:
    text = config.get_text_config(decoder=True)
    layers = {layer for layer in getattr(text, "layer_types", None) or () if any(word in layer for word in _OWN_STATE)}
    if layers:
        raise _refusal(kind, name, f"it has layers of the kind {', '.join(sorted(layers))}")
    if kind._is_stateful:
        raise _refusal(kind, name, "its state is no list of keys and values")
    if "position_ids" not in inspect.signature(kind.forward).parameters:
        raise _refusal(kind, name, "it cannot be told the places of its tokens (position_ids)")


def _check_survey(found: Survey, model: PreTrainedModel, name: str) -> None:
    config: Any = model.config.get_text_config(decoder=True)
    if len(found.widths) < config.num_hidden_layers:
        attending = f"{len(found.widths)} of its {config.num_hidden_layers} layers"
        raise _refusal(type(model), name, f"only {attending} use transformers' attention interface")
    if found.unknown:
        raise _refusal(type(model), name, f"its attention needs {', '.join(sorted(found.unknown))}")
    sliding = sum("sliding" in kind for kind in getattr(config, "layer_types", None) or ())
    if sliding > sum(window is not None for window in found.windows):
        raise _refusal(type(model), name, "it does not say how many tokens its sliding layers see")


def _refusal(kind: type, name: str, reason: str) -> UsageError:
    return UsageError(
        f"{name} ({kind.__name__}) cannot be served by the local engine: {reason}",
        fix="choose a model whose layers all attend to keys and values (Llama, Qwen, Gemma, Phi, GPT-2, ...)",
    )


@contextmanager
def _watching(model: PreTrainedModel, found: Survey, num_tokens: int) -> Iterator[None]:
    """Within the block, find the linear layers that see each token once, in order."""
    calls: dict[str, list[tuple[int, int, int]]] = {}

    def watch(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            rows = inputs[0].numel() // inputs[0].shape[-1]
            calls.setdefault(name, []).append((rows, inputs[0].shape[-1], output.shape[-1]))

        return hook

    linear = {name: module for name, module in model.named_modules() if is_linear(module)}
    handles = [module.register_forward_hook(watch(name)) for name, module in linear.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    # An expert sees the tokens that were sent to it, which may happen to be all of them.
    once = {name: seen[0] for name, seen in calls.items() if len(seen) == 1 and ".experts." not in name}
    found.linear_shapes = {name: (i, o) for name, (rows, i, o) in once.items() if rows == num_tokens}


def is_linear(module: nn.Module) -> bool:
    """Whether an adapter may go on it."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def context_of(config: PretrainedConfig) -> int | None:
    """Tokens that the model can read with the same rotary embeddings; None where its config does not say."""
    text: Any = config.get_text_config(decoder=True)
    limit: int | None = getattr(text, "max_position_embeddings", None)
    rope = getattr(text, "rope_parameters", None) or {}
    kinds = [rope, *(value for value in rope.values() if isinstance(value, Mapping))]
    for kind in kinds:
        if kind.get("rope_type") in _LENGTH_DEPENDENT:
            original: int | None = kind.get("original_max_position_embeddings") or limit
            limit = original if limit is None or original is None else min(limit, original)
    return limit


def vocab_size_of(model: PreTrainedModel) -> int:
    """Columns of its logits."""
    head: Any = model.get_output_embeddings()
    return int(model.config.get_text_config(decoder=True).vocab_size if head is None else head.weight.shape[0])


def _logits(model: Any, ids_T: Tensor, positions_T: Tensor, rows_R: Tensor, *, keeps_logits: bool) -> Tensor:
    """(R, V), in the model's number format."""
    only = {"logits_to_keep": rows_R} if keeps_logits else {}
    output = model(input_ids=ids_T[None], position_ids=positions_T[None], use_cache=False, **only)
    logits: Tensor = output.logits[0]
    return logits if keeps_logits else logits[rows_R]


def _kv_numbers(found: Survey) -> int:
    """Numbers that the cache holds of one token's keys."""
    return sum(heads * width for heads, width in zip(found.num_kv_heads, found.widths, strict=True))


def _num_bytes(model: nn.Module) -> int:
    """Of all weights; tied ones once."""
    tensors = [*model.parameters(), *model.buffers()]
    laid_out = sum(module.num_bytes for module in model.modules() if isinstance(module, _LaidOut))
    return laid_out + sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


# --- the runner -------------------------------------------------------------------------------------------------------


class TransformersRunner:
    """Meets `genai.inference.interfaces.Runner`.

    Args:
        model: in evaluation mode, with our attention (`survey` has put it there).
        found: what `survey` saw.
        max_positions: tokens of context.
        precision: int8 turns the weights of linear layers into 8 bits, the others leave them as they are.
        adapters: what may change its linear layers; of the model's number format.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        found: Survey,
        *,
        max_positions: int,
        precision: Precision = "fp32",
        adapters: AdapterBank | None = None,
    ) -> None:
        self.vocab_size = vocab_size_of(model)
        self.max_positions = max_positions
        self.kv_bytes_per_token = _kv_numbers(found) * 2 * model.dtype.itemsize
        if precision == "int8":
            _lay_out_in_8_bits(model, found)
        self.weight_bytes = _num_bytes(model)
        self._model: Any = model
        self._found = found
        self._adapters = adapters
        self._cache: PagedCache | None = None
        self._hooks = [] if adapters is None else list(_hook_adapters(model, adapters))

    def allocate(self, num_blocks: int, block_size: int) -> None:
        """Make the cache anew, empty."""
        self._cache = None  # before the new one, so that both are never there together
        self._cache = PagedCache(
            num_layers=len(self._found.widths),
            num_blocks=num_blocks,
            block_size=block_size,
            num_kv_heads=self._found.num_kv_heads,
            head_dim=self._found.widths,
            dtype=self._model.dtype,
            device=self._model.device,
        )

    @torch.no_grad()  # not inference_mode: logits are changed in place by whoever gets them
    def forward(self, step: Step) -> Tensor:
        """Read a step; (R, V) float32."""
        if self._cache is None:
            raise RuntimeError("allocate() comes before forward()")
        tensors = StepTensors(step, self._cache)
        if self._adapters is not None:
            self._adapters.begin(step)
        attention = _StepAttention(tensors, self._found.widths)
        with _attending(attention):
            logits_RV = _logits(
                self._model,
                tensors.ids_T,
                tensors.positions_T,
                tensors.logits_rows_R,
                keeps_logits=self._found.keeps_logits,
            )
        if attention.broken_T is not None:
            tensors.clear(attention.broken_T)
        return logits_RV.float()

    def close(self) -> None:
        """Let go of weights and cache."""
        for handle in self._hooks:
            handle.remove()
        self._hooks.clear()
        self._cache = None
        self._model = None


def _hook_adapters(model: nn.Module, adapters: AdapterBank) -> Iterator[RemovableHandle]:
    """Let the adapters change what their layers make."""

    def hook_of(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if adapters.active:
                adapters.apply(name, inputs[0].flatten(0, -2), output.view(-1, output.shape[-1]))

        return hook

    for name in adapters.modules:
        yield model.get_submodule(name).register_forward_hook(hook_of(name))


# --- weights in 8 bits ------------------------------------------------------------------------------------------------


class _LaidOut(nn.Module):
    """A linear layer whose weight lies elsewhere, in 8 bits."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        weight_OI, bias_O = _weight_and_bias(layer)
        self._dtype = activation_dtype("int8", dtype, weight_OI.device)
        self._linear = make_linear(weight_OI, None if bias_O is None else bias_O.to(self._dtype), "int8")
        self.num_bytes = self._linear.num_bytes

    def forward(self, x: Tensor) -> Tensor:
        y_TO = self._linear(x.flatten(0, -2).to(self._dtype))
        return y_TO.view(*x.shape[:-1], y_TO.shape[-1]).to(x.dtype)


def _lay_out_in_8_bits(model: PreTrainedModel, found: Survey) -> None:
    head = model.get_output_embeddings()
    names = [name for name, module in model.named_modules() if name in found.linear_shapes or module is head]
    for name in names:
        layer = model.get_submodule(name)
        if is_linear(layer):
            model.set_submodule(name, _LaidOut(layer, model.dtype))


def _weight_and_bias(layer: Any) -> tuple[Tensor, Tensor | None]:
    """(O, I) and (O,); GPT-2's layers have their weight the other way round."""
    weight: Tensor = layer.weight.detach()
    bias: Tensor | None = None if layer.bias is None else layer.bias.detach()
    return (weight if isinstance(layer, nn.Linear) else weight.t().contiguous()), bias
