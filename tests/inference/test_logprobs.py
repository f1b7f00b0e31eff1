"""Log-probabilities against torch's own."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny_tokenizers import sentencepiece_like

from genai.inference.interfaces import RefusedError, Sampled
from genai.inference.logprobs import described, prompt_logprobs, token_logprobs
from genai.inference.text import Vocabulary
from genai.models.generation import TokenLogprob


def test_logprob_rank_and_likeliest_of_each_row() -> None:
    logits_RV = torch.randn(4, 500, generator=torch.Generator().manual_seed(0))
    expected_RV = logits_RV.log_softmax(-1)
    token_ids, tops = [3, 7, int(logits_RV[2].argmax()), int(logits_RV[3].argmin())], [0, 5, 1, 500]
    for row, sampled in enumerate(token_logprobs(logits_RV, token_ids, tops)):
        order = logits_RV[row].argsort(descending=True).tolist()
        assert sampled.token_id == token_ids[row]
        assert sampled.logprob == pytest.approx(float(expected_RV[row, token_ids[row]]), abs=1e-5)
        assert order[sampled.rank - 1] == token_ids[row]
        assert [token for token, _ in sampled.top] == order[: tops[row]]
        assert [logprob for _, logprob in sampled.top] == pytest.approx(
            expected_RV[row][order[: tops[row]]].tolist(), abs=1e-5
        )


def test_a_prompt_longer_than_a_piece() -> None:
    logits_PV = torch.randn(100, 50, generator=torch.Generator().manual_seed(0))
    token_ids = list(range(50)) * 2
    told = prompt_logprobs(logits_PV, token_ids, 2)
    assert [sampled.token_id for sampled in told] == token_ids
    expected = logits_PV.log_softmax(-1).gather(1, torch.tensor(token_ids)[:, None])[:, 0]
    assert [sampled.logprob for sampled in told] == pytest.approx(expected.tolist(), abs=1e-5)
    assert all(len(sampled.top) == 2 for sampled in told)


def test_a_prompt_without_numbers_is_a_fault() -> None:
    logits_PV = torch.zeros(3, 50)
    logits_PV[1, 2] = math.nan
    with pytest.raises(RefusedError) as refused:
        prompt_logprobs(logits_PV, [1, 2, 3], 0)
    assert refused.value.fault == "failed"


def test_tokens_are_told_with_text_and_bytes(tmp_path: Path) -> None:
    vocabulary = Vocabulary(sentencepiece_like(tmp_path))
    byte = 3 + 0xE6
    told = described(Sampled(token_id=byte, logprob=-1.5, rank=2, top=((1, -0.5), (byte, -1.5))), vocabulary)
    replaced = "\N{REPLACEMENT CHARACTER}"
    first = TokenLogprob(token_id=1, text="<s>", data=b"<s>", logprob=-0.5, rank=1)
    second = TokenLogprob(token_id=byte, text=replaced, data=b"\xe6", logprob=-1.5, rank=2)
    assert told.top == (first, second)
    assert (told.text, told.data, told.logprob, told.rank) == (replaced, b"\xe6", -1.5, 2)
