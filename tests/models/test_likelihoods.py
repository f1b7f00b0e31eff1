"""Log-probabilities out of logits, and a tiny model of transformers that reads rows together as it reads each alone."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from genai.errors import UsageError
from genai.models.likelihoods import Row, TextTokens, TransformersLikelihoods, look_up

TOLERANCE = 1e-5
"""Of float32, in nats a token."""


class TestLookUp:
    def test_it_is_the_logarithm_of_the_softmax(self) -> None:
        torch.manual_seed(0)
        logits_RV = 10 * torch.randn(70, 501)
        before_RV = logits_RV.clone()
        rows, tokens = [0, 69, 33, 33, 5], [3, 500, 0, 7, int(logits_RV[5].argmax())]
        found = look_up(logits_RV, rows, tokens)
        assert found.logprobs == pytest.approx(logits_RV.double().log_softmax(-1)[rows, tokens].tolist(), abs=TOLERANCE)
        assert found.are_likeliest == [False, False, False, False, True]
        assert torch.equal(logits_RV, before_RV)

    def test_logits_in_bfloat16_are_added_up_in_float32(self) -> None:
        torch.manual_seed(0)
        logits_RV = torch.randn(4, 5000).to(torch.bfloat16)
        expected = logits_RV.double().log_softmax(-1)[:, 7].tolist()
        assert look_up(logits_RV, range(4), [7] * 4).logprobs == pytest.approx(expected, abs=TOLERANCE)

    def test_large_logits_do_not_overflow(self) -> None:
        assert look_up(torch.tensor([[1e4, -1e4, 1e4]]), [0], [0]).logprobs == pytest.approx([-math.log(2)])

    def test_of_equal_logits_the_first_is_the_likeliest(self) -> None:
        assert look_up(torch.tensor([[1.0, 2.0, 2.0]]), [0, 0], [1, 2]).are_likeliest == [True, False]

    def test_what_is_no_number_stays_none(self) -> None:
        assert math.isnan(look_up(torch.tensor([[math.nan, 0.0]]), [0], [1]).logprobs[0])

    def test_nothing_is_asked(self) -> None:
        assert look_up(torch.zeros(0, 5), [], []).logprobs == []


@pytest.fixture
def model(tiny: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()


def random_rows(seed: int, vocab_size: int, longest: int) -> list[Row]:
    draw = random.Random(seed)
    rows = []
    for _ in range(9):
        ids = [draw.randrange(vocab_size) for _ in range(draw.randint(1, longest))]
        places = draw.choices(range(len(ids)), k=draw.randint(0, 4))
        rows.append(Row(ids=ids, places=places, tokens=[draw.randrange(vocab_size) for _ in places]))
    return rows


@pytest.mark.parametrize("batch_size", [1, 4])
def test_rows_read_together_are_as_each_alone(model: Any, tiny_tokenizer: Any, batch_size: int) -> None:
    rows = random_rows(batch_size, model.config.vocab_size, 30)
    likelihoods = TransformersLikelihoods(model, tiny_tokenizer, batch_size=batch_size)
    for row, found in zip(rows, likelihoods.read(rows), strict=True):
        with torch.inference_mode():
            logprobs_SV = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        expected = [float(logprobs_SV[place, token]) for place, token in zip(row.places, row.tokens, strict=True)]
        assert found.logprobs == pytest.approx(expected, abs=1e-4)
        assert found.are_likeliest == [
            int(logprobs_SV[place].argmax()) == token for place, token in zip(row.places, row.tokens, strict=True)
        ]


def test_a_model_that_cannot_leave_logits_out(model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(3, model.config.vocab_size, 30)
    expected = TransformersLikelihoods(model, tiny_tokenizer).read(rows)
    whole = type(model).forward

    def forward(self: Any, input_ids: Any, use_cache: bool) -> Any:
        return whole(self, input_ids=input_ids, use_cache=use_cache)

    monkeypatch.setattr(type(model), "forward", forward)
    for found, same in zip(TransformersLikelihoods(model, tiny_tokenizer).read(rows), expected, strict=True):
        assert found.logprobs == pytest.approx(same.logprobs, abs=1e-4)


def test_a_model_in_training_mode_is_left_in_it(model: Any, tiny_tokenizer: Any) -> None:
    model.train()
    TransformersLikelihoods(model, tiny_tokenizer).read(random_rows(1, model.config.vocab_size, 9))
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_text_begins_with_the_beginning_else_with_the_end(tiny_tokenizer: Any) -> None:
    texts = TextTokens(tiny_tokenizer)
    wanted = tiny_tokenizer.bos_token_id if tiny_tokenizer.bos_token_id is not None else tiny_tokenizer.eos_token_id
    assert texts.prefix_id == wanted
    assert texts.prefix_text == tiny_tokenizer.decode([wanted])


def test_a_tokenizer_without_either_is_refused() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(UsageError, match="beginning or the end"):
        TextTokens(plain)
