"""Causal attention within documents, on a CPU: exact, in tiles, never across a document's border.

torch's own CPU kernel spends 40 % more time on short rows (its backward three times its forward), and given a mask it
multiplies all of it, packed neighbours included. Here a tile of queries meets only the keys from its first document's
start to its own end. A tile's probabilities are computed again in the backward pass, so that nothing of the size seq x
seq is kept.

transformers reaches it under the name `IMPLEMENTATION`, with `document_mask(...)` as attention mask; with any other
mask it behaves as `sdpa` (generation, other callers).

Shapes: B rows, S positions, H query heads, K key heads, G = H / K, D head size, n queries of a tile, L keys of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch.utils.weak import WeakIdKeyDictionary

IMPLEMENTATION = "genai_document_tiles"
"""Name in transformers' attention registry."""

_TILE_QUERIES = 128


class _Tile(NamedTuple):
    """Queries [start, end) of a row and the keys from `first_key` on, where the document that `start` is in begins.

    That document ends at `first_end`, or behind the tile; later queries see none of the keys before `start`.
    """

    row: int
    start: int
    end: int
    first_key: int
    first_end: int
    mask_n1n: torch.Tensor
    """float32 over the tile's own keys: 0 where a query may see a key, else -inf."""


_tiles_of: Any = WeakIdKeyDictionary()


def document_mask(document_starts_BS: torch.Tensor) -> torch.Tensor:
    """What to pass as `attention_mask`: for each position the index in its row of its document's first token.

    Args:
        document_starts_BS: int64 (batch, seq).

    Returns:
        int64 (batch, 1, 1, seq): four dimensions make transformers hand it through untouched; the dtype makes any
        other kernel refuse it.
    """
    return document_starts_BS[:, None, None, :].contiguous()


@cache
def register() -> None:
    """Make the kernel known to transformers as `IMPLEMENTATION`; further calls do nothing."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, _attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, sdpa_mask)


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
    """transformers' attention interface: query (B, H, S, D), key and value (B, K, S, D) -> (B, S, H, D)."""
    if attention_mask is None or attention_mask.dtype != torch.int64:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    unsupported = [
        name for name in ("sliding_window", "softcap", "s_aux", "position_bias") if kwargs.get(name) is not None
    ]
    if unsupported or dropout:
        raise NotImplementedError(f"document tiles know no {', '.join(unsupported) or 'attention dropout'}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Rotary embeddings leave float32 behind; the values show the number format of the products.
    out = document_attention(query.to(value.dtype), key.to(value.dtype), value, attention_mask, scale)
    return out, None


def _tiles(mask_B11S: torch.Tensor) -> list[_Tile]:
    """The tiles of a batch, computed once for all its layers."""
    if mask_B11S not in _tiles_of:
        _tiles_of[mask_B11S] = list(_build_tiles(mask_B11S[:, 0, 0]))
    tiles: list[_Tile] = _tiles_of[mask_B11S]
    return tiles


def _build_tiles(starts_BS: torch.Tensor) -> Iterator[_Tile]:
    seq = starts_BS.shape[1]
    for row, starts_S in enumerate(starts_BS):
        for start in range(0, seq, _TILE_QUERIES):
            end = min(start + _TILE_QUERIES, seq)
            starts_n = starts_S[start:end]
            first_end = start + int((starts_n <= start).sum())
            index_n = torch.arange(start, end)
            hidden_nn = (index_n > index_n[:, None]) | (index_n < starts_n[:, None])
            mask_n1n = torch.where(hidden_nn, -torch.inf, 0.0)[:, None, :]
            yield _Tile(row, start, end, int(starts_n[0]), first_end, mask_n1n)


def _grouped(query_BHSD: torch.Tensor, num_key_heads: int) -> torch.Tensor:
    """(B, H, S, D) -> contiguous (B, K, S * G, D): a tile of queries of one key head is one matrix."""
    grouped: torch.Tensor = query_BHSD.unflatten(1, (num_key_heads, -1)).transpose(2, 3).flatten(2, 3).contiguous()
    return grouped


def _probabilities(query_KND: torch.Tensor, key_KLD: torch.Tensor, tile: _Tile, scale: float) -> torch.Tensor:
    scores_KNL = torch.bmm(query_KND, key_KLD.transpose(1, 2))
    scores_KNL = scores_KNL.to(torch.promote_types(scores_KNL.dtype, torch.float32)).mul_(scale)
    scores_KnGL = scores_KNL.unflatten(1, (tile.end - tile.start, -1))
    num_before = tile.start - tile.first_key
    scores_KnGL[..., num_before:] += tile.mask_n1n
    scores_KnGL[:, tile.first_end - tile.start :, :, :num_before] = -torch.inf
    return torch.softmax(scores_KNL, -1)


@torch.library.custom_op("genai::document_attention", mutates_args=())
def document_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """softmax(scale * query key^T) value over the keys of the same document that are not later.

    Args:
        query: (B, H, S, D).
        key: (B, K, S, D), K a divisor of H.
        value: (B, K, S, D).
        mask: what `document_mask` returned.
        scale: factor of the scores.

    Returns:
        (B, S, H, D), contiguous.
    """
    batch, _, seq, size = query.shape
    num_key_heads = key.shape[1]
    group = query.shape[1] // num_key_heads
    query_BKND, key, value = _grouped(query, num_key_heads), key.contiguous(), value.contiguous()
    out_BSKGD = query.new_empty(batch, seq, num_key_heads, group, size)
    for tile in _tiles(mask):
        row, start, end, first_key = tile[:4]
        query_KND = query_BKND[row, :, start * group : end * group]
        probabilities_KNL = _probabilities(query_KND, key[row, :, first_key:end], tile, scale).to(value.dtype)
        out_KND = torch.bmm(probabilities_KNL, value[row, :, first_key:end])
        out_BSKGD[row, start:end] = out_KND.unflatten(1, (end - start, group)).transpose(0, 1)
    return out_BSKGD.flatten(2, 3)


@torch.library.custom_op("genai::document_attention_backward", mutates_args=())
def _document_attention_backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    num_key_heads = key.shape[1]
    group = query.shape[1] // num_key_heads
    query_BKND, key, value = _grouped(query, num_key_heads), key.contiguous(), value.contiguous()
    grad_BKND = _grouped(grad.transpose(1, 2), num_key_heads)
    grad_query_BKND = torch.empty_like(query_BKND)
    grad_key, grad_value = torch.zeros_like(key), torch.zeros_like(value)
    for tile in _tiles(mask):
        row, start, end, first_key = tile[:4]
        queries, keys = slice(start * group, end * group), slice(first_key, end)
        query_KND, grad_KND = query_BKND[row, :, queries], grad_BKND[row, :, queries]
        key_KLD, value_KLD = key[row, :, keys], value[row, :, keys]
        probabilities_KNL = _probabilities(query_KND, key_KLD, tile, scale)
        grad_value[row, :, keys] += torch.bmm(probabilities_KNL.to(value.dtype).transpose(1, 2), grad_KND)
        grad_probabilities_KNL = torch.bmm(grad_KND, value_KLD.transpose(1, 2)).to(probabilities_KNL.dtype)
        grad_scores_KNL = torch._softmax_backward_data(
            grad_probabilities_KNL, probabilities_KNL, -1, probabilities_KNL.dtype
        )
        grad_scores_KNL = grad_scores_KNL.to(value.dtype)
        torch.bmm(grad_scores_KNL, key_KLD, out=grad_query_BKND[row, :, queries])
        grad_key[row, :, keys] += torch.bmm(grad_scores_KNL.transpose(1, 2), query_KND)
    grad_query = grad_query_BKND.mul_(scale).unflatten(2, (-1, group)).transpose(2, 3).flatten(1, 2)
    return grad_query, grad_key.mul_(scale), grad_value


@document_attention.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scale: float) -> torch.Tensor:
    batch, heads, seq, size = query.shape
    return query.new_empty(batch, seq, heads, size)


@_document_attention_backward.register_fake
def _(
    grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any
) -> tuple[torch.Tensor, ...]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    query, key, value, mask, ctx.scale = inputs
    ctx.save_for_backward(query, key, value, mask)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    query, key, value, mask = ctx.saved_tensors
    gradients = _document_attention_backward(grad, query, key, value, mask, ctx.scale)
    return (*gradients, None, None)


document_attention.register_autograd(_backward, setup_context=_save)
