"""Attention over a cache of keys and values that lies in blocks, for steps that mix answers with chunks of prompts.

Each head's blocks lie together, so that the blocks of many sequences are gathered into one dense batch with a single
copy, and all query heads that share a head of keys become rows of one product. Sequences that read one token are read
from rows (see `answer_rows`); those that have none are batched with others of like length. Chunks are read one by one,
in pieces, each piece with the keys up to its end.

Shapes: T tokens of a step, laid end to end; H query heads; K heads of keys and values; G = H / K; E width of a head; B
sequences that read one token; X = B * K; P blocks of each; C tokens of a chunk or of a piece of it; L tokens of
context; N places of the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from genai.inference.answer_rows import AnswerRows, gather_blocks
from genai.inference.interfaces import Part, Step
from genai.inference.memory import tokens_in_rows

_ROWS_A_PIECE = 128
"""Queries of a chunk that are read at once: smaller pieces skip more of what causality hides."""
_BLOCKS_A_BATCH = 32
"""One batch more costs about as much as so many blocks of padding (measured on a CPU)."""


class PagedCache:
    """Keys and values of all layers.

    Args:
        num_layers: that have attention.
        num_blocks: of the cache, block 0 included, which no sequence owns.
        block_size: tokens a block.
        num_kv_heads: K; one number for all layers, or one each.
        head_dim: E; likewise.
        dtype: of keys and values.
        device: where they lie.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_blocks: int,
        block_size: int,
        num_kv_heads: int | Sequence[int],
        head_dim: int | Sequence[int],
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        heads = [num_kv_heads] * num_layers if isinstance(num_kv_heads, int) else list(num_kv_heads)
        widths = [head_dim] * num_layers if isinstance(head_dim, int) else list(head_dim)
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.keys = [
            torch.zeros(k, num_blocks * block_size, e, dtype=dtype, device=device)
            for k, e in zip(heads, widths, strict=True)
        ]
        """Of each layer: (K, N, E)."""
        self.values = [torch.zeros_like(keys_KNE) for keys_KNE in self.keys]
        self.device = torch.device(device)
        self.dtype = dtype
        self.spoiled: set[int] = set()
        """Blocks of which something was taken out because it was no number."""
        self.rows = AnswerRows(self, tokens_in_rows(num_blocks * block_size))


class StepTensors:
    """What the layers of a model need to read one step; made once a step.

    Args:
        step: what is read.
        cache: where the sequences' keys and values lie.
    """

    ids_T: Tensor
    """(T,) int64: the tokens."""
    positions_T: Tensor
    """(T,) int64: their places in their sequences."""
    logits_rows_R: Tensor
    """(R,) int64: rows of T of which logits are wanted, in the order that `Runner.forward` promises."""

    def __init__(self, step: Step, cache: PagedCache) -> None:
        parts, device = step.parts, cache.device
        self._cache = cache
        self.ids_T = _ints([token for part in parts for token in part.token_ids], device)
        self.positions_T = _ints([at for part in parts for at in range(part.start, part.stop)], device)
        self.logits_rows_R = _ints(_logits_rows(parts), device)
        self._slots_T = _ints([slot for part in parts for slot in part.slots], device)
        self._spoiled_T = _rows_without_numbers(parts, cache) if cache.spoiled else None
        decodes = parts[: step.num_decodes]
        in_rows = cache.rows.take(decodes)
        self._reads: list[_InRows | _Gathered | _Chunk] = []
        if in_rows:
            self._reads.append(_InRows(decodes, in_rows, cache))
        self._reads += [_Gathered(decodes, rows, cache) for rows in _batches(decodes, in_rows, cache.block_size)]
        self._reads += _chunks(parts[step.num_decodes :], step.num_decodes, cache)

    def attend(
        self,
        layer: int,
        query_THE: Tensor,
        key_TKE: Tensor,
        value_TKE: Tensor,
        scale: float,
        *,
        window: int | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        """Write the step's keys and values into the cache, then attend to everything before and each token itself.

        Args:
            layer: counted from 0.
            query_THE: (T, H, E), H a multiple of K; the cache may have another number format.
            key_TKE: (T, K, E).
            value_TKE: (T, K, E).
            scale: of the scores, before the softmax.
            window: only the last so many tokens are seen, the token itself included.
            softcap: scores become softcap * tanh(scores / softcap).

        Returns:
            (T, H, E), contiguous, in the queries' number format.
        """
        cache, kind = self._cache, _Kind(scale, window, softcap)
        query_THE_, key_TKE_, value_TKE_ = (new.to(cache.dtype) for new in (query_THE, key_TKE, value_TKE))
        cache.keys[layer].transpose(0, 1).index_copy_(0, self._slots_T, key_TKE_)
        cache.values[layer].transpose(0, 1).index_copy_(0, self._slots_T, value_TKE_)
        out_THE = torch.empty(query_THE.shape, dtype=query_THE.dtype, device=query_THE.device)
        for read in self._reads:
            if isinstance(read, _InRows):
                read.write(layer, key_TKE_[read.rows], value_TKE_[read.rows])
            out_THE[read.rows] = read.attend(layer, query_THE_[read.rows], kind)
        if self._spoiled_T is not None:
            out_THE[self._spoiled_T] = torch.nan
        return out_THE

    def clear(self, broken_T: Tensor) -> None:
        """Take what this step wrote of some tokens out of the cache: numbers that are not finite would spoil the next
        owner's answer, whose products run over the unused places of its last block too.

        What reads those places later as part of its own text gets no numbers from any layer, as if they were there.

        Args:
            broken_T: (T,) bool, which tokens have no numbers.
        """
        cache, slots = self._cache, self._slots_T[broken_T]
        for cached_KNE in (*cache.keys, *cache.values):
            cached_KNE.index_fill_(1, slots, 0)
        cache.rows.forget()
        cache.spoiled.update((slots // cache.block_size).tolist())


def _rows_without_numbers(parts: Sequence[Part], cache: PagedCache) -> Tensor | None:
    """(T,) bool: tokens of sequences some of whose earlier tokens had none; None where there are no such sequences."""
    size = cache.block_size
    for part in parts:
        # Whoever begins a block has nothing to do with what was in it.
        cache.spoiled.difference_update(slot // size for slot in part.slots if slot % size == 0)
    spoiled = [not cache.spoiled.isdisjoint(part.sequence.blocks[: -(-part.stop // size)]) for part in parts]
    if not any(spoiled):
        return None
    flags = [flag for part, flag in zip(parts, spoiled, strict=True) for _ in part.token_ids]
    return torch.tensor(flags, device=cache.device)


class _Kind(NamedTuple):
    """What kind of attention a layer has."""

    scale: float
    window: int | None
    softcap: float | None


class _Decodes:
    """Sequences that read one token each, in one batch."""

    def __init__(self, decodes: Sequence[Part], rows: list[int], cache: PagedCache) -> None:
        self._cache = cache
        self._stops_B1 = _ints([[decodes[row].stop] for row in rows], cache.device)
        self._biases: dict[tuple[int, int | None], Tensor] = {}
        self.rows: slice | Tensor = _ints(rows, cache.device)
        """Which rows of T they are."""
        if rows == list(range(rows[0], rows[0] + len(rows))):
            self.rows = slice(rows[0], rows[0] + len(rows))

    def attend(self, layer: int, query_BHE: Tensor, kind: _Kind) -> Tensor:
        """(B, H, E)."""
        key_XLE, value_XLE = self._read(layer)
        num_rows, num_heads, width = query_BHE.shape
        num_kv = len(key_XLE) // num_rows
        query_XGE = query_BHE.reshape(num_rows * num_kv, num_heads // num_kv, width) * kind.scale
        bias_XGL = self._bias(num_kv, key_XLE.shape[1], kind.window).expand(-1, query_XGE.shape[1], -1)
        key_XEL = key_XLE.transpose(1, 2)
        if kind.softcap is None:
            scores_XGL = torch.baddbmm(bias_XGL, query_XGE, key_XEL)
        else:
            scores_XGL = _capped(torch.bmm(query_XGE, key_XEL), kind.softcap) + bias_XGL
        return torch.bmm(torch.softmax(scores_XGL, -1), value_XLE).view(query_BHE.shape)

    def _read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of all: (X, L, E) each."""
        raise NotImplementedError

    def _bias(self, num_kv: int, length: int, window: int | None) -> Tensor:
        """(X, 1, L): 0 where a key is seen, -inf where not."""
        bias = self._biases.get((num_kv, window))
        if bias is None:
            at_L = torch.arange(length, device=self._stops_B1.device)
            hidden_BL = at_L >= self._stops_B1
            if window is not None:
                hidden_BL |= at_L < self._stops_B1 - window
            bias_BL = torch.zeros(hidden_BL.shape, dtype=self._cache.dtype, device=at_L.device)
            bias_BL.masked_fill_(hidden_BL, -torch.inf)
            bias = self._biases[num_kv, window] = bias_BL.repeat_interleave(num_kv, 0)[:, None]
        return bias


class _InRows(_Decodes):
    """Those whose keys and values lie in rows."""

    def __init__(self, decodes: Sequence[Part], rows: list[int], cache: PagedCache) -> None:
        super().__init__(decodes, rows, cache)
        self._places: dict[int, Tensor] = {}

    def write(self, layer: int, key_BKE: Tensor, value_BKE: Tensor) -> None:
        """Append this step's."""
        num_kv = key_BKE.shape[1]
        places_X = self._places.get(num_kv)
        if places_X is None:
            places_X = self._places[num_kv] = self._cache.rows.places(num_kv)
        self._cache.rows.write(layer, places_X, key_BKE, value_BKE)

    def _read(self, layer: int) -> tuple[Tensor, Tensor]:
        return self._cache.rows.read(layer)


class _Gathered(_Decodes):
    """Those whose blocks are gathered."""

    def __init__(self, decodes: Sequence[Part], rows: list[int], cache: PagedCache) -> None:
        super().__init__(decodes, rows, cache)
        tables = [decodes[row].sequence.blocks[: -(-decodes[row].stop // cache.block_size)] for row in rows]
        widest = max(map(len, tables))
        self._blocks_BP = _ints([[*table, *[0] * (widest - len(table))] for table in tables], cache.device)

    def _read(self, layer: int) -> tuple[Tensor, Tensor]:
        cache = self._cache
        return (
            gather_blocks(cache.keys[layer], self._blocks_BP, cache.block_size),
            gather_blocks(cache.values[layer], self._blocks_BP, cache.block_size),
        )


class _Chunk:
    """Several tokens of one sequence."""

    def __init__(self, part: Part, first_row: int, cache: PagedCache) -> None:
        self._cache = cache
        self._start = part.start
        self._blocks_P = _ints(part.sequence.blocks[: -(-part.stop // cache.block_size)], cache.device)
        self.rows = slice(first_row, first_row + len(part.token_ids))
        """Which rows of T it is."""

    def attend(self, layer: int, query_CHE: Tensor, kind: _Kind) -> Tensor:
        """(C, H, E)."""
        key_KLE, value_KLE = self._gather(self._cache.keys[layer]), self._gather(self._cache.values[layer])
        pieces = []
        for row, piece_CHE in zip(range(0, len(query_CHE), _ROWS_A_PIECE), query_CHE.split(_ROWS_A_PIECE), strict=True):
            start = self._start + row
            stop = start + len(piece_CHE)
            first = 0 if kind.window is None else max(0, start + 1 - kind.window)
            pieces.append(_attend_piece(piece_CHE, key_KLE[:, first:stop], value_KLE[:, first:stop], kind))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _gather(self, cached_KNE: Tensor) -> Tensor:
        """(K, L, E)."""
        num_kv, _, width = cached_KNE.shape
        blocks = cached_KNE.view(num_kv, self._cache.num_blocks, -1).index_select(1, self._blocks_P)
        return blocks.view(num_kv, -1, width)


def _attend_piece(query_CHE: Tensor, key_KLE: Tensor, value_KLE: Tensor, kind: _Kind) -> Tensor:
    """(C, H, E); the queries are the last C of the L tokens, or of those that their windows reach back to."""
    (num_rows, num_heads, width), (num_kv, length, _) = query_CHE.shape, key_KLE.shape
    groups = num_heads // num_kv
    query_KGCE = (query_CHE * kind.scale).view(num_rows, num_kv, groups, width).permute(1, 2, 0, 3)
    scores = torch.bmm(query_KGCE.reshape(num_kv, groups * num_rows, width), key_KLE.transpose(1, 2))
    if kind.softcap is not None:
        scores = _capped(scores, kind.softcap)
    scores_KGCL = scores.view(num_kv, groups, num_rows, length)
    later_CC = torch.ones(num_rows, num_rows, dtype=torch.bool, device=scores.device).triu_(1)
    scores_KGCL[..., length - num_rows :].masked_fill_(later_CC, -torch.inf)
    if kind.window is not None:
        earlier_CL = torch.ones(num_rows, length, dtype=torch.bool, device=scores.device)
        scores_KGCL.masked_fill_(earlier_CL.tril_(length - num_rows - kind.window), -torch.inf)
    out = torch.bmm(torch.softmax(scores, -1), value_KLE)
    return out.view(num_kv, groups, num_rows, width).permute(2, 0, 1, 3).reshape(num_rows, num_heads, width)


def _capped(scores: Tensor, softcap: float) -> Tensor:
    return torch.tanh(scores / softcap) * softcap


# --- laying out a step ------------------------------------------------------------------------------------------------


def _batches(decodes: Sequence[Part], without: Sequence[int], block_size: int) -> list[list[int]]:
    """Rows that are gathered together: longest first, cut where padding the rest to the same length would cost more."""
    num_blocks_B = [-(-part.stop // block_size) for part in decodes]
    order = sorted(set(range(len(decodes))).difference(without), key=lambda row: -num_blocks_B[row])
    batches: list[list[int]] = []
    for at, row in enumerate(order):
        saved = (num_blocks_B[batches[-1][0]] - num_blocks_B[row]) * (len(order) - at) if batches else _BLOCKS_A_BATCH
        if saved >= _BLOCKS_A_BATCH:
            batches.append([])
        batches[-1].append(row)
    return batches if len(batches) > 1 else [sorted(batch) for batch in batches]


def _chunks(parts: Sequence[Part], first_row: int, cache: PagedCache) -> Iterator[_Chunk]:
    for part in parts:
        yield _Chunk(part, first_row, cache)
        first_row += len(part.token_ids)


def _logits_rows(parts: Sequence[Part]) -> list[int]:
    rows: list[int] = []
    at = 0
    for part in parts:
        count = len(part.token_ids)
        if part.wants_all_logits:
            rows.extend(range(at, at + count))
        elif part.wants_logits:
            rows.append(at + count - 1)
        at += count
    return rows


def _ints(values: Sequence[int] | Sequence[Sequence[int]], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=device)
