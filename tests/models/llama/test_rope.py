"""Rotary tables: their values, and when they are made anew."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from genai.models.llama import rope
from genai.models.llama.config import LlamaConfig
from genai.models.llama.rope import RopeTables, frequencies

CPU = torch.device("cpu")


def config(**changes: Any) -> LlamaConfig:
    sizes: dict[str, Any] = {"vocab_size": 9, "d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 8, "max_seq_len": 32}
    return LlamaConfig(**{**sizes, **changes})


def test_frequencies_of_the_paper() -> None:
    found = frequencies(config(), 32).tolist()
    assert found == pytest.approx([10000 ** (-2 * i / 8) for i in range(4)])


def test_linear_scaling_divides_positions() -> None:
    scaled = frequencies(config(rope_scaling={"rope_type": "linear", "factor": 4.0}), 32)
    assert torch.equal(scaled, frequencies(config(), 32) / 4)


def test_rotation_is_one_of_the_complex_plane() -> None:
    states = torch.randn(2, 5, 3, 8, dtype=torch.float64)
    rotation = RopeTables(config())(5, None, CPU)
    turned = rotation(states)
    angle = torch.complex(rotation.cos, rotation.sin).squeeze(1)
    expected = torch.complex(states[..., :4], states[..., 4:]) * angle[:, None]
    torch.testing.assert_close(turned, torch.cat((expected.real, expected.imag), -1), rtol=1e-6, atol=1e-6)


def test_scores_depend_on_distance_alone() -> None:
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    tables = RopeTables(config())

    def score(i: int, j: int) -> float:
        a, b = (tables(32, torch.tensor([[at]]), CPU)(x) for x, at in ((query, i), (key, j)))
        return float((a * b).sum())

    assert score(9, 4) == pytest.approx(score(25, 20), abs=1e-5)


def test_bfloat16_states_stay_bfloat16() -> None:
    states = torch.randn(1, 4, 1, 8)
    rotation = RopeTables(config())(4, None, CPU)
    turned = rotation(states.bfloat16())
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, rotation(states.bfloat16().float()).bfloat16())


def test_tables_are_made_once_and_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    original = rope.frequencies
    monkeypatch.setattr(rope, "frequencies", lambda c, n: made.append(n) or original(c, n))
    tables = RopeTables(config())
    for length in (5, 32, 7, 40, 33, 8):
        cos = tables(length, None, CPU).cos
        assert cos.shape == (length, 1, 4)
        assert float(cos[-1, 0, 0]) == pytest.approx(math.cos(length - 1), abs=1e-5)
    assert len(made) == 2


def test_positions_pick_rows() -> None:
    tables = RopeTables(config())
    positions = torch.tensor([[0, 1, 2, 0], [0, 0, 1, 2]])
    rotation = tables(4, positions, CPU)
    assert rotation.cos.shape == rotation.sin.shape == (2, 4, 1, 4)
    assert torch.equal(rotation.cos[1, 3], tables(4, None, CPU).cos[2])


def test_dynamic_scaling_begins_behind_the_context() -> None:
    dynamic = config(rope_scaling={"rope_type": "dynamic", "factor": 2.0})
    plain, tables = RopeTables(config()), RopeTables(dynamic)
    assert torch.equal(tables(32, None, CPU).sin, plain(32, None, CPU).sin)
    longer = tables(48, None, CPU).sin
    assert not torch.equal(longer, plain(48, None, CPU).sin)
    # Two documents that both fit are not a long one.
    both = torch.cat([torch.arange(24), torch.arange(24)])[None]
    assert torch.equal(tables(48, both, CPU).sin[0, :24], plain(24, None, CPU).sin)
    assert torch.equal(tables(48, None, CPU).sin, longer)


def test_tables_made_in_an_evaluation_can_be_trained_with() -> None:
    tables = RopeTables(config())
    with torch.inference_mode():
        tables(4, None, CPU)
    states = torch.randn(1, 4, 1, 8, requires_grad=True)
    tables(4, None, CPU)(states).sum().backward()  # type: ignore[no-untyped-call]
    assert states.grad is not None
