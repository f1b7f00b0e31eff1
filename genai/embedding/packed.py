"""Texts of different lengths through a transformer without filling: one behind the other in a single row.

Every layer but attention looks at a token by itself, so there a row of many texts costs what its tokens cost. Attention
gets a kernel of its own, which multiplies text by text: transformers reaches it under the name `IMPLEMENTATION`, and
outside of `Packing.hidden` it behaves as `sdpa`. On a CPU its forward and backward in bfloat16 are two to four times as
fast as torch's, three times with dropout (which there means its kernel without any tricks); on an accelerator it would
be many small launches, so there texts are filled up as usual.

Whether a model can do this is found out by comparison, see `find_packing`.

Shapes: T tokens of all texts, H heads, D numbers a head, N texts of one length L, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from genai.embedding.dropout import ONE, sign_where_dropped
from genai.embedding.settings import Pooling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IMPLEMENTATION = "genai_packed"
"""Name in transformers' attention registry."""

_LONGEST = 1024
"""Tokens; a longer text's matrix of probabilities takes more memory than a kernel without it takes time."""
_PROBABILITIES = 2**16
"""Of one head that are computed together."""
_PROBE_LENGTHS = (7, 7, 5, 3, 2)
_PROBE_TOLERANCE = 1e-4
_UNKNOWN = ("sliding_window", "softcap", "s_aux", "position_bias")
_SIGN_BIT = -(2**15)


class _CannotPackError(Exception):
    """The model asks something of attention that the kernel does not know."""


@dataclass(frozen=True)
class Layout:
    """Where texts lie in the row; those of one length lie side by side."""

    lengths: tuple[int, ...]
    """Of the texts, in their order in the row."""

    @cached_property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """How many texts (N) of which length (L) are multiplied together: as many equally long ones as follow each
        other, and as keep what is computed of them in the processor's cache.
        """
        found = []
        for length, same in groupby(self.lengths):
            left, most = len(list(same)), max(1, _PROBABILITIES // length**2)
            while left:
                found.append((min(left, most), length))
                left -= found[-1][0]
        return tuple(found)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Tokens of each group."""
        return tuple(count * length for count, length in self.groups)

    def split(self, values: torch.Tensor) -> list[torch.Tensor]:
        """(T, ...) -> (N, L, ...) of each group."""
        parts = values.split(self.sizes)
        return [part.unflatten(0, group) for part, group in zip(parts, self.groups, strict=True)]

    def pool(self, hidden_TW: torch.Tensor, pooling: Pooling) -> torch.Tensor:
        """One vector a text, float32 (texts, W)."""
        parts = [part.float() for part in self.split(hidden_TW)]
        if pooling == "mean":
            return torch.cat([part.mean(1) for part in parts])
        if pooling == "max":
            return torch.cat([part.amax(1) for part in parts])
        return torch.cat([part[:, 0 if pooling == "cls" else -1] for part in parts])


@dataclass(frozen=True)
class Packing:
    """How a model takes packed texts."""

    first_position: int
    """Position of a text's first token: RoBERTa and its like count from behind the filling's id."""

    def fits(self, lengths: Sequence[int]) -> bool:
        """Whether texts of these lengths are better packed than filled up."""
        return max(lengths) <= _LONGEST

    def vectors(
        self, model: torch.nn.Module, sequences: Sequence[Sequence[int] | NDArray[Any]], pooling: Pooling
    ) -> torch.Tensor:
        """One vector a text, float32 (texts, W); fastest when equally long texts are neighbours."""
        layout = Layout(tuple(map(len, sequences)))
        return layout.pool(self.hidden(model, sequences, layout), pooling)

    def hidden(
        self, model: torch.nn.Module, sequences: Sequence[Sequence[int] | NDArray[Any]], layout: Layout
    ) -> torch.Tensor:
        """The model's last hidden states, (T, W)."""
        positions = np.concatenate([np.tile(np.arange(length), count) for count, length in layout.groups])
        ids = np.concatenate([np.asarray(sequence, dtype=np.int64) for sequence in sequences])
        token = _active.set(layout)
        try:
            output = model(
                input_ids=torch.from_numpy(ids)[None],
                # of ones only, because without it transformers looks for packed texts by itself, and makes a mask
                attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
                position_ids=torch.from_numpy(positions + self.first_position)[None],
            )
        finally:
            _active.reset(token)
        return cast("torch.Tensor", output.last_hidden_state)[0]


_active: ContextVar[Layout | None] = ContextVar("genai_packed_layout", default=None)


def find_packing(model: PreTrainedModel, pad_token_id: int) -> Packing | None:
    """How the model takes packed texts, or None where that changes its vectors, or where it would not be faster.

    A few short texts go through it packed and one by one; without dropout both must agree. What depends on the length
    (sliding windows, biases by distance) is refused by the kernel itself.

    Args:
        model: as loaded, without an adapter; its attention is set to `IMPLEMENTATION` where it can be packed.
        pad_token_id: where positions may count from.
    """
    if model.device.type != "cpu":
        return None
    before, was_training = model.config._attn_implementation, model.training
    try:
        register()
        model.set_attn_implementation(IMPLEMENTATION)
        model.eval()
        for first_position in dict.fromkeys((0, pad_token_id + 1)):
            if _agrees(model, Packing(first_position)):
                return Packing(first_position)
    except (_CannotPackError, ValueError, TypeError, KeyError, IndexError, RuntimeError, NotImplementedError):
        pass  # whatever an architecture says against it: texts are filled up then, as anywhere else
    finally:
        model.train(was_training)
    model.set_attn_implementation(before)
    return None


@cache
def register() -> None:
    """Make the kernel known to transformers as `IMPLEMENTATION`; further calls do nothing."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, _attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, _mask)


def _agrees(model: PreTrainedModel, packing: Packing) -> bool:
    embeddings: Any = model.get_input_embeddings()
    vocabulary = embeddings.weight.shape[0]
    random = np.random.default_rng(0)
    texts = [random.integers(vocabulary // 2, vocabulary, length) for length in _PROBE_LENGTHS]
    exact = next(model.parameters()).dtype == torch.float32
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        packed = packing.hidden(model, texts, Layout(_PROBE_LENGTHS)).float()
        alone = [model(input_ids=torch.from_numpy(text)[None]).last_hidden_state[0].float() for text in texts]
    difference = (packed - torch.cat(alone)).norm() / torch.cat(alone).norm()
    return bool(difference < (_PROBE_TOLERANCE if exact else 300 * _PROBE_TOLERANCE))


def _mask(**arguments: Any) -> torch.Tensor | None:
    """transformers' mask interface: no mask of texts that are packed."""
    from transformers.masking_utils import bidirectional_mask_function, causal_mask_function, sdpa_mask

    if _active.get() is None:
        return sdpa_mask(**arguments)
    if arguments.get("mask_function", causal_mask_function) not in (bidirectional_mask_function, causal_mask_function):
        raise _CannotPackError("a mask of its own")
    return None


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: query (1, H, T, D), key and value (1, K, T, D) -> (1, T, H, D)."""
    layout = _active.get()
    if layout is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    unknown = [name for name in _UNKNOWN if kwargs.get(name) is not None]
    if unknown or attention_mask is not None or query.shape[2] != key.shape[2]:
        raise _CannotPackError(", ".join(unknown) or "a mask of its own")
    if (repeats := query.shape[1] // key.shape[1]) > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    causal = kwargs.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal  # as transformers' own kernels
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Rotary embeddings leave float32 behind; the values show the number format of the products.
    query_THD, key_THD, value_THD = (
        each[0].transpose(0, 1) for each in (query.to(value.dtype), key.to(value.dtype), value)
    )
    mixed_THD = packed_attention(query_THD, key_THD, value_THD, layout, scale=scale, dropout=dropout, causal=causal)
    return mixed_THD[None], None


def packed_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    *,
    scale: float,
    dropout: float = 0.0,
    causal: bool = False,
) -> torch.Tensor:
    """softmax(scale * query key^T) value within each text, all (T, H, D).

    Args:
        query: in any strides.
        key: likewise.
        value: likewise.
        layout: of the texts.
        scale: factor of the scores.
        dropout: share of the probabilities set to 0, to 1/32768; the others are scaled up.
        causal: whether a token sees only those before it.
    """
    apply: Any = _PackedAttention.apply
    return cast("torch.Tensor", apply(query, key, value, layout, scale, dropout, causal))


class _PackedAttention(torch.autograd.Function):
    """Keeps the probabilities, those that were dropped with a minus sign: neither a mask nor a second matrix."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> torch.Tensor:
        query, key, value, layout, scale, dropout, causal = inputs
        with torch.autocast(query.device.type, enabled=False):
            drops = round(dropout * ONE)
            kept = 1 / (1 - drops / ONE)
            out = torch.empty_like(value, memory_format=torch.contiguous_format)
            signed = []
            parts = zip(*map(layout.split, (query, key, value, out)), strict=True)
            for query_NLHD, key_NLHD, value_NLHD, out_NLHD in parts:
                scores = torch.bmm(_by_head(query_NLHD) * scale, _by_head(key_NLHD).transpose(1, 2))
                if causal:
                    length = scores.shape[-1]
                    scores.masked_fill_(torch.ones(length, length, dtype=torch.bool).triu_(1), -torch.inf)
                probabilities = torch.softmax(scores, -1)
                signed.append(probabilities)
                if drops:
                    _drop(probabilities, drops)
                    probabilities = torch.relu(probabilities)
                mixed = torch.bmm(probabilities, _by_head(value_NLHD))
                if drops:
                    mixed.mul_(kept)
                out_NLHD.copy_(_by_token(mixed, out_NLHD.shape))
        ctx.layout, ctx.scale, ctx.kept = layout, scale, kept
        ctx.save_for_backward(query, key, value, out, *signed)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        query, key, value, out, *signed = ctx.saved_tensors
        results = [torch.empty_like(each, memory_format=torch.contiguous_format) for each in (query, key, value)]
        tensors = (query, key, value, out, gradients[0], *results)
        parts = zip(signed, *map(ctx.layout.split, tensors), strict=True)
        for kept_HLL, query_NLHD, key_NLHD, value_NLHD, out_NLHD, grad_NLHD, *into in parts:
            grad = _by_head(grad_NLHD)
            # The sum over a row of P dP is that of out and its gradient; see arXiv:2205.14135, appendix B.4.
            row_sums = (grad * _by_head(out_NLHD)).sum(-1, keepdim=True)
            dropped = ctx.kept != 1
            if dropped:
                grad = grad * ctx.kept
            probabilities = torch.relu(kept_HLL) if dropped else kept_HLL
            grad_value = torch.bmm(probabilities.transpose(1, 2), grad)
            grad_scores = torch.bmm(grad, _by_head(value_NLHD).transpose(1, 2))
            if dropped:
                grad_scores.mul_(probabilities).addcmul_(kept_HLL.abs(), row_sums, value=-1)
            else:
                grad_scores.sub_(row_sums).mul_(probabilities)
            grad_query = torch.bmm(grad_scores, _by_head(key_NLHD)).mul_(ctx.scale)
            grad_key = torch.bmm(grad_scores.transpose(1, 2), _by_head(query_NLHD)).mul_(ctx.scale)
            for target, found in zip(into, (grad_query, grad_key, grad_value), strict=True):
                target.copy_(_by_token(found, target.shape))
        return (*results, None, None, None, None)


def _by_head(values_NLHD: torch.Tensor) -> torch.Tensor:
    """(N, L, H, D) -> (N * H, L, D)"""
    return values_NLHD.transpose(1, 2).flatten(0, 1)


def _by_token(values: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """(N * H, L, D) -> (N, L, H, D), a view."""
    by_head: torch.Tensor = values.unflatten(0, (shape[0], shape[2]))
    return by_head.transpose(1, 2)


def _drop(values: torch.Tensor, drops: int) -> None:
    """Give each of the values, which are not negative, a minus sign with a probability of `drops` / ONE."""
    signs = sign_where_dropped(values, drops)
    if values.dtype == torch.bfloat16:
        values.view(torch.int16).bitwise_or_(signs.bitwise_and_(_SIGN_BIT))
    else:
        values.copy_(torch.where(signs < 0, -values, values))
