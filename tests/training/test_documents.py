"""Where documents begin, and which way of telling it a model understands."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from genai.errors import GenaiError
from genai.training import attention
from genai.training.documents import (
    DocumentTiles,
    ExplicitMask,
    NoPacking,
    PackedPositions,
    PackingMethod,
    Tokens,
    choose_packing,
    document_starts,
    probe_tokens,
    probing,
)

CPU = torch.device("cpu")


def test_starts_follow_positions_up_to_the_last_trained_token() -> None:
    positions = torch.tensor([[0, 1, 2, 0, 1, 0, 0], [0, 1, 2, 3, 4, 0, 1]])
    labels = torch.tensor([[-100, 7, -100, -100, 7, -100, -100], [-100, 7, 7, 7, 7, -100, -100]])
    assert document_starts(positions, labels).tolist() == [[0, 0, 0, 3, 3, 3, 3], [0] * 7]


def test_a_document_of_one_token_counts() -> None:
    positions = torch.tensor([[0, 0, 0, 1]])
    labels = torch.tensor([[-100, -100, -100, 5]])
    assert document_starts(positions, labels).tolist() == [[0, 1, 2, 2]]


def test_a_row_that_trains_nothing_is_one_document() -> None:
    assert document_starts(torch.tensor([[0, 1, 0]]), torch.full((1, 3), -100)).tolist() == [[0, 0, 0]]


class Decoder(torch.nn.Module):
    def forward(self, input_ids: Any, position_ids: Any = None, attention_mask: Any = None) -> None: ...


class DecoderWithoutPositions(torch.nn.Module):
    def forward(self, input_ids: Any, attention_mask: Any = None) -> None: ...


def test_arguments_of_each_method() -> None:
    tokens = probe_tokens([[5, 6], [7, 8, 9]], 100, CPU)
    alone = probe_tokens([[5, 6]], 100, CPU)
    assert set(PackedPositions(DecoderWithoutPositions(), "sdpa").arguments(tokens)) == {"input_ids"}
    assert set(PackedPositions(Decoder(), "sdpa").arguments(tokens)) == {"input_ids", "position_ids"}
    mask = ExplicitMask(Decoder(), "sdpa", torch.float32).arguments(tokens)["attention_mask"]
    assert mask.dtype == torch.bool
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 1, 1, 1],
    ]
    additive = ExplicitMask(Decoder(), "eager", torch.float32).arguments(tokens)["attention_mask"]
    assert torch.equal(additive == 0, mask) and float(additive.min()) == torch.finfo(torch.float32).min
    assert "attention_mask" not in ExplicitMask(Decoder(), "sdpa", torch.float32).arguments(alone)
    with pytest.raises(GenaiError, match="packed row apart"):
        NoPacking(Decoder(), "sdpa").arguments(tokens)
    assert set(NoPacking(Decoder(), "sdpa").arguments(alone)) == {"input_ids", "position_ids"}


def test_flash_attention_gets_all_rows_as_one() -> None:
    """It looks for packed positions only where the batch is 1."""
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    positions = torch.tensor([[0, 1, 0], [0, 1, 2]])
    tokens = Tokens(input_ids_BS=ids, position_ids_BS=positions, starts_BS=torch.zeros_like(ids), packed=True)
    given = PackedPositions(Decoder(), "flash_attention_2").arguments(tokens)
    assert given["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6]]
    assert given["position_ids"].tolist() == [[0, 1, 0, 0, 1, 2]]


def leaky(how: str) -> Any:
    """Hidden states that depend on the neighbour unless told by `how`."""

    def hidden_states(tokens: Tokens, method: PackingMethod) -> torch.Tensor:
        given = method.arguments(tokens)
        if isinstance(method, DocumentTiles) and how == "crash":
            raise RuntimeError("tiles do not fit this model")
        values = tokens.input_ids_BS.float()
        told = how in given and (how != "position_ids" or bool((given[how] == 0).sum() > 1))
        first = tokens.starts_BS if told or not tokens.packed else torch.zeros_like(tokens.starts_BS)
        sums = torch.stack(
            [row[s : i + 1].sum() for row, starts in zip(values, first, strict=True) for i, s in enumerate(starts)]
        )
        return sums.view(*values.shape, 1)

    return hidden_states


@pytest.mark.integration
@pytest.mark.parametrize(
    ("implementation", "how", "expected"),
    [
        ("sdpa", "attention_mask", DocumentTiles),
        ("sdpa", "position_ids", DocumentTiles),
        ("eager", "position_ids", PackedPositions),
        ("eager", "attention_mask", ExplicitMask),
        ("eager", "nothing", NoPacking),
        ("sdpa", "crash", NoPacking),
    ],
)
def test_the_method_is_tried_on_the_model(implementation: str, how: str, expected: type, tiny_model: Any) -> None:
    tiny_model.set_attn_implementation(implementation)
    chosen = choose_packing(tiny_model, tiny_model.get_decoder(), leaky(how), device=CPU)
    assert type(chosen) is expected
    kept = attention.IMPLEMENTATION if expected is DocumentTiles else implementation
    assert tiny_model.config._attn_implementation == kept


def test_probing_leaves_modes_alone() -> None:
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    model.train()
    model[1].eval()
    with probing(model):
        assert not model.training and not model[0].training and not torch.is_grad_enabled()
    assert model.training and model[0].training and not model[1].training and torch.is_grad_enabled()
