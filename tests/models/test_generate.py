from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genai.errors import DataError
from genai.models.generate import answer, stream_chat

pytestmark = pytest.mark.integration
QUESTION = [{"role": "user", "content": "When does the site office open?"}]


class Scripted(torch.nn.Module):
    """Says the given tokens one after the other, whatever it is asked."""

    def __init__(self, ids: list[int], config: Any) -> None:
        super().__init__()
        self.ids, self.config, self.generation_config = ids, config, None
        self.device = torch.device("cpu")
        self.calls: list[int] = []

    def forward(self, input_ids: torch.Tensor, past_key_values: Any, **_: Any) -> Any:
        from types import SimpleNamespace

        step = len(self.calls)
        self.calls.append(input_ids.shape[1])
        logits = torch.zeros(1, 1, self.config.vocab_size)
        logits[0, 0, self.ids[step]] = 10.0
        return SimpleNamespace(logits=logits, past_key_values=step)


@pytest.fixture
def model(tiny: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny).eval()


def test_greedy_equals_transformers(model: Any, tiny_tokenizer: Any) -> None:
    inputs = tiny_tokenizer.apply_chat_template(
        QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**inputs, max_new_tokens=24, do_sample=False, eos_token_id=2, pad_token_id=0)
    expected = tiny_tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer(model, tiny_tokenizer, QUESTION, max_new_tokens=24) == expected


@pytest.mark.parametrize("text", ["Öffnung: 7 Uhr 🙂🙂, ja — 日本", "one two  three\n\n- four", " leads with a space"])
def test_pieces_join_to_the_text(tiny_tokenizer: Any, llama_config: Callable[..., Any], text: str) -> None:
    ids = tiny_tokenizer(text)["input_ids"]
    scripted: Any = Scripted([*ids, 2], llama_config(len(tiny_tokenizer)))
    pieces = list(stream_chat(scripted, tiny_tokenizer, QUESTION))
    assert "".join(pieces) == text
    assert len(pieces) > 3
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert scripted.calls[1:] == [1] * len(ids)  # after the prompt, one token a step


def test_stops_at_the_end_of_the_turn(tiny_tokenizer: Any, llama_config: Callable[..., Any]) -> None:
    ids = tiny_tokenizer("The site")["input_ids"]
    scripted: Any = Scripted([*ids, 2, *ids], llama_config(len(tiny_tokenizer)))
    assert answer(scripted, tiny_tokenizer, QUESTION) == "The site"


def test_bytes_that_never_become_a_character_come_out_at_the_end(
    tiny_tokenizer: Any, llama_config: Callable[..., Any]
) -> None:
    ids = tiny_tokenizer("ab🙂")["input_ids"][:-1]
    scripted: Any = Scripted([*ids, 2], llama_config(len(tiny_tokenizer)))
    assert answer(scripted, tiny_tokenizer, QUESTION).startswith("ab\N{REPLACEMENT CHARACTER}")


def test_seeds(model: Any, tiny_tokenizer: Any) -> None:
    def sample(seed: int) -> str:
        return answer(model, tiny_tokenizer, QUESTION, max_new_tokens=16, temperature=1.0, top_p=0.95, seed=seed)

    before = torch.get_rng_state()
    assert sample(1) == sample(1) != sample(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_narrow_top_p_is_greedy(model: Any, tiny_tokenizer: Any) -> None:
    greedy = answer(model, tiny_tokenizer, QUESTION, max_new_tokens=12)
    assert answer(model, tiny_tokenizer, QUESTION, max_new_tokens=12, temperature=1.0, top_p=1e-6) == greedy


def test_gradients_work_between_two_pieces(model: Any, tiny_tokenizer: Any) -> None:
    stream = stream_chat(model, tiny_tokenizer, QUESTION, max_new_tokens=8)
    next(stream)
    assert not torch.is_inference_mode_enabled()
    assert model(torch.tensor([[3, 4]])).logits.requires_grad


def test_a_full_context_is_said(model: Any, tiny_tokenizer: Any) -> None:
    with pytest.raises(DataError, match="context is full"):
        answer(model, tiny_tokenizer, [{"role": "user", "content": "building site " * 200}])


def test_the_context_is_not_overrun(model: Any, tiny_tokenizer: Any) -> None:
    long = [{"role": "user", "content": "x" * 220}]
    pieces = list(stream_chat(model, tiny_tokenizer, long, max_new_tokens=10_000))
    assert len(pieces) < 40
