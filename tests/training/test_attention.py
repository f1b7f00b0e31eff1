"""Attention in tiles against torch's, with an explicit mask."""

from __future__ import annotations

import itertools

import pytest
import torch

from genai.training import attention
from genai.training.attention import document_attention, document_mask

B, K, G, D = 2, 2, 3, 8


def starts_of(*rows: list[int]) -> torch.Tensor:
    """Each row as lengths of documents -> for each position its document's start."""
    return torch.tensor(
        [
            [start for n, start in zip(row, itertools.accumulate([0, *row]), strict=False) for _ in range(n)]
            for row in rows
        ]
    )


def states(seq: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Query, key, value as transformers hands them over: transposed views."""
    generator = torch.Generator().manual_seed(seq)
    shapes = [(B, seq, heads, D) for heads in (K * G, K, K)]
    return [torch.randn(shape, generator=generator).to(dtype).transpose(1, 2).requires_grad_() for shape in shapes]


def reference(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: torch.Tensor, scale: float
) -> torch.Tensor:
    index = torch.arange(starts.shape[1])
    seen = (index <= index[:, None]) & (index >= starts[:, :, None])
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=seen[:, None], scale=scale, enable_gqa=True
    )
    return out.transpose(1, 2)


CASES = {
    "one document a row": ([20], [20]),
    "shorter than a tile": ([3], [3]),
    "tiles end inside documents": ([9, 1, 1, 12], [1, 21, 1]),
    "borders at the tiles' edges": ([8, 8, 4], [16, 4]),
}


@pytest.mark.parametrize("rows", CASES.values(), ids=list(CASES))
def test_forward_and_backward(rows: tuple[list[int], list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_TILE_QUERIES", 8)
    starts = starts_of(*rows)
    leaves = states(starts.shape[1])
    ours = document_attention(*leaves, document_mask(starts), 0.3)
    expected = reference(*leaves, starts, 0.3)
    assert ours.is_contiguous()
    torch.testing.assert_close(ours, expected)
    upstream = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, leaves, upstream), torch.autograd.grad(expected, leaves, upstream), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_a_neighbour_leaves_no_trace() -> None:
    starts = starts_of([6, 9], [15])
    query, key, value = states(15)
    mask = document_mask(starts)
    before = document_attention(query, key, value, mask, 0.3)
    moved = [each.detach().clone() for each in (query, key, value)]
    for each in moved:
        each[0, :, :6] += 100
    after = document_attention(*moved, mask, 0.3)
    assert torch.equal(before[0, 6:], after[0, 6:]) and not torch.equal(before[0, :6], after[0, :6])


def test_bfloat16_is_as_near_as_torchs_own() -> None:
    starts = starts_of([40], [15, 25])
    exact = reference(*states(40), starts, D**-0.5)
    rounded = states(40, torch.bfloat16)
    ours = document_attention(*rounded, document_mask(starts), D**-0.5)
    theirs = reference(*rounded, starts, D**-0.5)
    assert (ours.double() - exact).abs().max() <= 2 * (theirs.double() - exact).abs().max()


def test_operator_is_sound_for_the_compiler() -> None:
    leaves = [each.detach().float().requires_grad_() for each in states(20)]
    arguments = (*leaves, document_mask(starts_of([9, 11], [20])), 0.3)
    torch.library.opcheck(torch.ops.genai.document_attention.default, arguments)


def test_tiles_are_built_once_for_a_batch() -> None:
    mask = document_mask(starts_of([9, 11], [20]))
    first = attention._tiles(mask)
    assert attention._tiles(mask) is first
    count = len(attention._tiles_of)
    del mask, first
    assert len(attention._tiles_of) == count - 1


@pytest.mark.parametrize("reason", [{"dropout": 0.1}, {"sliding_window": 4}, {"softcap": 2.0}])
def test_what_tiles_do_not_know_is_refused(reason: dict[str, float]) -> None:
    query, key, value = states(20)
    mask = document_mask(starts_of([20], [20]))
    with pytest.raises(NotImplementedError, match="document tiles"):
        attention._attention(torch.nn.Module(), query, key, value, mask, **reason)  # type: ignore[arg-type]
