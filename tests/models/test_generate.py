from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genai.errors import DataError
from genai.models.generate import Sampling, answer, generate_batch, stream_chat

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


PROMPTS = [
    "When does the site office open?",
    "When does the site office close, and who signs?",
    "When does it?",
    "Wear a helmet, boots and a vest on the building site; 25 pallets of bricks are delivered.",
    "W",
]


def batch(
    model: Any, tokenizer: Any, prompts: list[str], *, seeds: list[int] | None = None, **changes: Any
) -> list[str]:
    batch_size = changes.pop("batch_size", 8)
    ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    sampling = Sampling(**{"max_new_tokens": 16, **changes})
    return generate_batch(
        model, tokenizer, ids, seeds=seeds or [17] * len(ids), sampling=sampling, batch_size=batch_size
    )


def alone(model: Any, tokenizer: Any, prompt: str) -> str:
    """What transformers itself answers to one prompt."""
    inputs = tokenizer(prompt, return_tensors="pt")
    output = model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=16,
        do_sample=False,
        eos_token_id=2,
        pad_token_id=0,
    )
    return str(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_a_batch_answers_as_transformers_does_one_by_one(model: Any, tiny_tokenizer: Any, size: int) -> None:
    expected = [alone(model, tiny_tokenizer, prompt) for prompt in PROMPTS]
    assert batch(model, tiny_tokenizer, PROMPTS, batch_size=size) == expected
    assert len(set(expected)) == len(PROMPTS)


def test_what_prompts_share_is_read_once(model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    forward = model.forward

    def watched(input_ids: torch.Tensor, position_ids: Any = None, **rest: Any) -> Any:
        shapes.append(tuple(input_ids.shape))
        return forward(input_ids=input_ids, position_ids=position_ids, **rest)

    expected = [alone(model, tiny_tokenizer, prompt) for prompt in PROMPTS[:3]]
    monkeypatch.setattr(model, "forward", watched)
    assert batch(model, tiny_tokenizer, PROMPTS[:3]) == expected
    lengths = [len(tiny_tokenizer(prompt)["input_ids"]) for prompt in PROMPTS[:3]]
    (one, shared), (rows, width) = shapes[:2]
    assert (one, rows) == (1, 3)
    assert 3 < shared < min(lengths)
    assert shared + width == max(lengths)


def test_rows_that_are_over_are_read_no_longer(
    model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [alone(model, tiny_tokenizer, prompt) for prompt in PROMPTS]
    sizes: list[int] = []
    forward, lengths = model.forward, [2, 3, 4, 16, 16]

    def watched(input_ids: torch.Tensor, position_ids: Any = None, **rest: Any) -> Any:
        sizes.append(input_ids.shape[0])
        return forward(input_ids=input_ids, position_ids=position_ids, **rest)

    ids = [tiny_tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    monkeypatch.setattr(model, "forward", watched)
    monkeypatch.setattr(
        "genai.models.generate._has_line",
        lambda tokenizer, new: any(
            len(new) >= length and text.startswith(tokenizer.decode(new))
            for text, length in zip(expected, lengths, strict=True)
        ),
    )
    sampling = Sampling(max_new_tokens=16, one_line=True)
    given = generate_batch(model, tiny_tokenizer, ids, seeds=[1] * 5, sampling=sampling)
    assert all(text.startswith(short) for text, short in zip(expected, given, strict=True))
    assert given[3:] == expected[3:]
    assert sizes[0] == 5
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 2


def test_equal_prompts_share_all_but_their_last_token(model: Any, tiny_tokenizer: Any) -> None:
    assert batch(model, tiny_tokenizer, [PROMPTS[0]] * 3) == [alone(model, tiny_tokenizer, PROMPTS[0])] * 3


@pytest.mark.parametrize("kind", ["bloom", "gpt2"])
def test_other_ways_to_tell_places(kind: str, tiny_tokenizer: Any) -> None:
    """Bloom counts places by itself; GPT-2 looks them up."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=len(tiny_tokenizer), n_layer=2, n_head=2, hidden_size=32, initializer_range=0.3
    )
    config.max_position_embeddings = 256
    other = AutoModelForCausalLM.from_config(config).eval()
    expected = [alone(other, tiny_tokenizer, prompt) for prompt in PROMPTS]
    assert batch(other, tiny_tokenizer, PROMPTS) == expected


def test_an_answer_depends_on_its_own_seed_only(model: Any, tiny_tokenizer: Any) -> None:
    def sample(prompts: list[str], seeds: list[int]) -> list[str]:
        return batch(model, tiny_tokenizer, prompts, seeds=seeds, temperature=1.0, top_p=0.9)

    before = torch.get_rng_state()
    together = sample(PROMPTS, [1, 2, 3, 4, 5])
    assert torch.equal(torch.get_rng_state(), before)
    assert [sample([prompt], [seed])[0] for prompt, seed in zip(PROMPTS, [1, 2, 3, 4, 5], strict=True)] == together
    assert sample(PROMPTS[::-1], [5, 4, 3, 2, 1]) == together[::-1]
    assert sample(PROMPTS, [1, 2, 3, 4, 6])[4] != together[4]
    assert sample(PROMPTS, [1, 2, 3, 4, 6])[:4] == together[:4]


def test_a_batch_of_a_narrow_top_p_is_greedy(model: Any, tiny_tokenizer: Any) -> None:
    greedy = batch(model, tiny_tokenizer, PROMPTS)
    assert batch(model, tiny_tokenizer, PROMPTS, temperature=1.0, top_p=1e-6) == greedy


def test_draws_have_the_frequencies_of_the_distribution() -> None:
    from genai.models.generate import _choose_rows

    shares = torch.tensor([0.5, 0.3, 0.15, 0.05])
    draws = (torch.arange(1000) + 0.5) / 1000
    rows = shares.log().expand(1000, 4)
    chosen = _choose_rows(rows, Sampling(temperature=1.0), draws)
    assert torch.bincount(chosen, minlength=4).tolist() == pytest.approx([500, 300, 150, 50], abs=1)
    cut = torch.bincount(_choose_rows(rows, Sampling(temperature=1.0, top_p=0.8), draws), minlength=4)
    assert cut.tolist() == pytest.approx([625, 375, 0, 0], abs=1)
    colder = torch.bincount(_choose_rows(rows, Sampling(temperature=0.5), draws), minlength=4)
    expected = shares**2 / (shares**2).sum() * 1000
    assert colder.tolist() == pytest.approx(expected.tolist(), abs=1)


def test_the_highest_draw_takes_a_token_that_counts() -> None:
    from genai.models.generate import _choose_rows

    logits = torch.randn(64, 500, generator=torch.Generator().manual_seed(0))
    highest = torch.full((64,), 1 - 2**-24)
    tokens = _choose_rows(logits, Sampling(temperature=1.0, top_p=0.5), highest)
    probabilities = logits.softmax(-1)
    better = (probabilities * (probabilities > probabilities.gather(1, tokens[:, None]))).sum(-1)
    assert bool((better < 0.5 + 1e-5).all())


def test_one_line_is_enough(tiny_tokenizer: Any, llama_config: Callable[..., Any]) -> None:
    ids = tiny_tokenizer("\n\n one two\n three four\n five")["input_ids"]
    scripted: Any = Scripted([*ids, 2], llama_config(len(tiny_tokenizer)))
    (text,) = batch(scripted, tiny_tokenizer, ["a"], max_new_tokens=200, one_line=True)
    assert text.strip() == "one two"
    assert len(scripted.calls) < len(ids)


def test_a_batch_does_not_overrun_the_context(model: Any, tiny_tokenizer: Any) -> None:
    texts = batch(model, tiny_tokenizer, ["x" * 250, "y"], max_new_tokens=10_000)
    assert len(texts) == 2
    with pytest.raises(DataError, match="a prompt has 300 tokens and the model reads 256"):
        batch(model, tiny_tokenizer, ["x" * 300])


def test_no_prompts(model: Any, tiny_tokenizer: Any) -> None:
    assert batch(model, tiny_tokenizer, []) == []
