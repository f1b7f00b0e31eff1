"""Choosing tokens: distributions against exact probabilities, each rule against transformers' own, rows on their own.

Shapes: R rows; V vocabulary.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from genai.inference.interfaces import Answering, Constraint, RefusedError, Sampled
from genai.inference.sampling import Row, Sampler, check_sampling, draw, unpack_masks
from genai.models.generation import GenerationRequest, SamplingParams

VOCAB = 1000
NUM_DRAWS = 4000


class Allowed:
    """A constraint that always allows the same tokens."""

    is_over = False

    def __init__(self, *tokens: int, fault: RefusedError | None = None) -> None:
        self.tokens = tokens
        self.fault = fault

    def fill_mask(self, mask: torch.Tensor) -> None:
        if self.fault:
            raise self.fault
        mask.zero_()
        for token in self.tokens:
            mask[token // 32] |= torch.tensor(1 << (token % 32)).int()

    def accept(self, token_id: int) -> None:
        """Every token leaves it as it is."""


def a_row(
    *,
    output_ids: list[int] | None = None,
    constraint: Constraint | None = None,
    prompt: tuple[int, ...] = (1,),
    **params: Any,
) -> Row:
    sampling = SamplingParams(**{"max_tokens": 100_000, **params})
    request = GenerationRequest(id="r", model="m", prompt_ids=list(prompt), sampling=sampling)
    return Row(Answering(request=request, arrival=0.0, output_ids=output_ids or [], constraint=constraint))


def some_logits(num_rows: int = 1, *, vocab: int = VOCAB, scale: float = 3.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_rows, vocab, generator=torch.Generator().manual_seed(seed)) * scale


def tokens_of(sampled: list[Sampled | RefusedError]) -> list[int]:
    tokens = []
    for item in sampled:
        assert isinstance(item, Sampled), item
        tokens.append(item.token_id)
    return tokens


def drawn_tokens(logits_1V: torch.Tensor, **params: Any) -> Counter[int]:
    rows = [a_row(seed=seed, **params) for seed in range(NUM_DRAWS)]
    sampler = Sampler(logits_1V.shape[-1])
    return Counter(
        token
        for start in range(0, NUM_DRAWS, 500)
        for token in tokens_of(sampler.choose(logits_1V.expand(500, -1), rows[start : start + 500]))
    )


def chi_square_per_degree(counts: Counter[int], probabilities_V: torch.Tensor) -> float:
    """About 1 when the counts come from these probabilities; rare tokens are put together."""
    expected = probabilities_V.double() * NUM_DRAWS
    often = [token for token in range(len(expected)) if expected[token] >= 5]
    rest = NUM_DRAWS - float(expected[often].sum())
    terms = [(counts[token] - float(expected[token])) ** 2 / float(expected[token]) for token in often]
    if rest >= 1:
        terms.append((NUM_DRAWS - sum(counts[token] for token in often) - rest) ** 2 / rest)
    return sum(terms) / max(1, len(terms) - 1)


# --- distributions ----------------------------------------------------------------------------------------------------

WARPERS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "temperature": ({"temperature": 0.7}, [TemperatureLogitsWarper(0.7)]),
    "hot": ({"temperature": 2.5}, [TemperatureLogitsWarper(2.5)]),
    "top-k": ({"top_k": 7}, [TopKLogitsWarper(7)]),
    "top-k beyond what is looked at first": (
        {"top_k": 500, "temperature": 3.0},
        [TemperatureLogitsWarper(3.0), TopKLogitsWarper(500)],
    ),
    "top-p": ({"top_p": 0.8}, [TopPLogitsWarper(0.8)]),
    "top-p beyond what is looked at first": (
        {"top_p": 0.95, "temperature": 9.0},
        [TemperatureLogitsWarper(9.0), TopPLogitsWarper(0.95)],
    ),
    "min-p": ({"min_p": 0.05}, [MinPLogitsWarper(0.05)]),
    "min-p beyond what is looked at first": (
        {"min_p": 0.3, "temperature": 9.0},
        [TemperatureLogitsWarper(9.0), MinPLogitsWarper(0.3)],
    ),
    "all": (
        {"temperature": 1.3, "top_k": 40, "top_p": 0.9, "min_p": 0.02},
        [TemperatureLogitsWarper(1.3), TopKLogitsWarper(40), TopPLogitsWarper(0.9), MinPLogitsWarper(0.02)],
    ),
}


@pytest.mark.parametrize("name", WARPERS)
def test_draws_follow_the_probabilities_that_transformers_computes(name: str) -> None:
    params, warpers = WARPERS[name]
    logits_1V = some_logits()
    warped_1V = logits_1V.clone()
    for warper in warpers:
        warped_1V = warper(torch.tensor([[1]]), warped_1V)
    probabilities_V = warped_1V.softmax(-1)[0]
    counts = drawn_tokens(logits_1V, **params)
    assert all(probabilities_V[token] > 0 for token in counts), "a token was drawn that transformers leaves out"
    assert chi_square_per_degree(counts, probabilities_V) < 1.5


@pytest.mark.parametrize("vocab", [1, 2, 255, 256, 257, 1000])
def test_any_size_of_vocabulary(vocab: int) -> None:
    logits_1V = some_logits(vocab=vocab)
    for params in ({}, {"top_p": 0.9}, {"top_k": 10_000}, {"min_p": 1.0}, {"top_k": 1}):
        [token] = tokens_of(Sampler(vocab).choose(logits_1V, [a_row(**params)]))
        assert 0 <= token < vocab
        if params in ({"top_k": 1}, {"min_p": 1.0}):
            assert token == int(logits_1V.argmax())


def test_a_token_without_weight_is_never_drawn_even_at_the_ends_of_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    logits_1V = torch.full((1, 600), -math.inf)
    logits_1V[0, [3, 300]] = 0.0
    for luck, expected in ((0.0, 3), (0.499, 3), (0.5, 300), (1 - 2**-48, 300)):
        monkeypatch.setattr("genai.inference.sampling.draw", lambda seed, place, luck=luck: luck)
        assert tokens_of(Sampler(600).choose(logits_1V, [a_row()])) == [expected]
        assert tokens_of(Sampler(600).choose(logits_1V, [a_row(top_p=0.999)]))[0] in (3, 300)


def test_luck_is_even_and_depends_on_seed_and_place_alone() -> None:
    draws = torch.tensor([draw(seed, place) for seed in (-1, 0, 2**63) for place in range(1000)])
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = torch.histc(draws, 10, 0, 1)
    assert float(((counts - 300) ** 2 / 300).sum()) < 27.9, "99.9 % of even draws lie below"
    assert draw(5, 7) == draw(5, 7)
    assert len({draw(seed, place) for seed in range(20) for place in range(20)}) == 400


# --- penalties, bias, ends --------------------------------------------------------------------------------------------


def greedy_after(row: Row, logits_1V: torch.Tensor) -> torch.Tensor:
    """The logits as the sampler changed them."""
    sampler = Sampler(logits_1V.shape[-1], stop_token_ids=[0])
    return sampler._change(logits_1V, [row], {})


def test_repetition_is_that_of_transformers_over_prompt_and_answer() -> None:
    logits_1V = some_logits()
    expected_1V = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([[1, 5, 5, 9, 700]]), logits_1V.clone())
    changed_1V = greedy_after(a_row(prompt=(1, 5, 5), output_ids=[9, 700], repetition_penalty=1.3), logits_1V)
    assert torch.equal(changed_1V, expected_1V)


def test_presence_and_frequency_count_the_answer_only() -> None:
    logits_1V = some_logits()
    row = a_row(prompt=(1, 5), output_ids=[7, 9, 7], presence_penalty=0.5, frequency_penalty=0.25)
    expected_1V = logits_1V.clone()
    expected_1V[0, 7] -= 0.5 + 2 * 0.25
    expected_1V[0, 9] -= 0.5 + 0.25
    torch.testing.assert_close(greedy_after(row, logits_1V), expected_1V)


def test_counts_that_grow_step_by_step_are_those_of_the_whole_answer() -> None:
    logits_1V = some_logits()
    penalties = {"presence_penalty": 0.3, "frequency_penalty": 0.2, "repetition_penalty": 1.2}
    growing = a_row(prompt=(3, 4), **penalties)
    for token in torch.randint(0, VOCAB, (700,), generator=torch.Generator().manual_seed(1)).tolist():
        greedy_after(growing, logits_1V)
        growing.sequence.output_ids.append(token)
    at_once = a_row(prompt=(3, 4), output_ids=list(growing.sequence.output_ids), **penalties)
    assert torch.equal(greedy_after(growing, logits_1V), greedy_after(at_once, logits_1V))


def test_bias_is_added() -> None:
    logits_1V = some_logits()
    changed_1V = greedy_after(a_row(logit_bias={4: 100.0, 8: -100.0}), logits_1V)
    assert float(changed_1V[0, 4] - logits_1V[0, 4]) == pytest.approx(100, abs=1e-4)
    assert int(changed_1V.argmax()) == 4
    assert int(changed_1V.argmin()) == 8


def test_the_ends_are_forbidden_until_min_tokens_have_come() -> None:
    logits_1V = some_logits()
    logits_1V[0, [0, 6]] = 50.0
    sampler = Sampler(VOCAB, stop_token_ids=[0])
    early, late = [a_row(temperature=0, min_tokens=2, stop_token_ids=(6,), output_ids=ids) for ids in ([1], [1, 2])]
    assert tokens_of(sampler.choose(logits_1V, [early]))[0] not in (0, 6)
    assert tokens_of(sampler.choose(logits_1V, [late]))[0] in (0, 6)
    ignoring = a_row(temperature=0, min_tokens=2, stop_token_ids=(6,), ignore_eos=True)
    assert tokens_of(sampler.choose(logits_1V, [ignoring])) == [0], "with ignore_eos it is no end"


# --- constraints ------------------------------------------------------------------------------------------------------


def test_masks_are_unpacked_bit_by_bit() -> None:
    masks = torch.randint(-(2**31), 2**31 - 1, (3, 5), dtype=torch.int64).int()
    added = unpack_masks(masks)
    for row in range(3):
        for token in range(160):
            is_set = (int(masks[row, token // 32]) >> (token % 32)) & 1
            assert float(added[row, token]) == (0.0 if is_set else -math.inf)


def test_only_what_a_constraint_allows_is_chosen() -> None:
    logits_RV = some_logits(3)
    rows = [a_row(constraint=Allowed(31, 32, 999), temperature=t) for t in (0.0, 1.0)] + [a_row(temperature=0)]
    first, second, free = tokens_of(Sampler(VOCAB).choose(logits_RV, rows))
    assert first == max((31, 32, 999), key=lambda token: float(logits_RV[0, token]))
    assert second in (31, 32, 999)
    assert free == int(logits_RV[2].argmax())


def test_a_constraint_that_allows_but_the_end_wins_over_min_tokens() -> None:
    sampler = Sampler(VOCAB, stop_token_ids=[0, 999])
    for allowed, expected in (((0, 999), {0, 999}), ((0, 5, 999), {5})):
        row = a_row(constraint=Allowed(*allowed), temperature=0, min_tokens=5)
        assert set(tokens_of(sampler.choose(some_logits(), [row]))) <= expected


def test_a_row_whose_constraint_fails_leaves_the_others_alone() -> None:
    broken = RefusedError("too complex", param="response_format")
    rows = [a_row(constraint=Allowed(1)), a_row(constraint=Allowed(fault=broken)), a_row(constraint=Allowed())]
    fine, failed, empty = Sampler(VOCAB).choose(some_logits(3), rows)
    assert isinstance(fine, Sampled)
    assert failed is broken
    assert isinstance(empty, RefusedError)
    assert empty.fault == "failed"
    assert "no token is allowed" in empty.message


# --- faults and mixes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("params", [{"temperature": 0.0}, {}, {"top_p": 0.5}])
def test_what_is_no_number_is_the_fault_of_its_row_alone(value: float, params: dict[str, float]) -> None:
    logits_RV = some_logits(3)
    logits_RV[1, 17] = value
    rows = [a_row(**params, logprobs=2) for _ in range(3)]
    alone = Sampler(VOCAB).choose(logits_RV[[0, 2]], [rows[0], rows[2]])
    first, broken, last = Sampler(VOCAB).choose(logits_RV, rows)
    assert isinstance(broken, RefusedError)
    assert broken.fault == "failed"
    assert [first, last] == alone


def test_a_logit_of_minus_infinity_is_no_fault() -> None:
    logits_1V = some_logits()
    logits_1V[0, 500:] = -math.inf
    assert tokens_of(Sampler(VOCAB).choose(logits_1V, [a_row()]))[0] < 500


@pytest.mark.parametrize("temperature", [1e-4, 1.1e-5, 1e-5, 1e-30, 5e-324])
def test_a_tiny_temperature_takes_the_likeliest(temperature: float) -> None:
    logits_RV = some_logits(4, scale=100.0)
    rows = [
        a_row(temperature=temperature, seed=seed, **more)
        for seed, more in enumerate(({}, {"top_p": 0.9}, {"min_p": 0.1}, {"top_k": 5}))
    ]
    assert tokens_of(Sampler(VOCAB).choose(logits_RV, rows)) == logits_RV.argmax(-1).tolist()


def test_a_very_high_temperature_draws_among_all() -> None:
    counts = drawn_tokens(some_logits(vocab=300), temperature=1e30)
    assert chi_square_per_degree(counts, torch.full((300,), 1 / 300)) < 1.5


KINDS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 8.0, "top_p": 0.99},
    {"top_k": 20, "logprobs": 3},
    {"min_p": 0.1},
    {"temperature": 0.0, "logprobs": 0},
    {"repetition_penalty": 1.2, "frequency_penalty": 0.5},
    {"logit_bias": {3: 5.0}},
    {"constraint": Allowed(*range(0, 1000, 7))},
    {"min_tokens": 50, "top_k": 300},
]


def test_a_row_is_chosen_alike_alone_and_in_any_mix() -> None:
    generator = torch.Generator().manual_seed(7)
    logits_RV = some_logits(len(KINDS))
    sampler = Sampler(VOCAB, stop_token_ids=[0])

    def row_of(kind: int) -> Row:
        return a_row(seed=kind, output_ids=[4, 5, 6], **KINDS[kind])

    alone = [sampler.choose(logits_RV[kind : kind + 1], [row_of(kind)])[0] for kind in range(len(KINDS))]
    for _ in range(10):
        order = torch.randperm(len(KINDS), generator=generator)[
            : int(torch.randint(1, len(KINDS), (1,), generator=generator))
        ]
        before = logits_RV[order].clone()
        logits = logits_RV[order]
        assert sampler.choose(logits, [row_of(kind) for kind in order.tolist()]) == [alone[k] for k in order.tolist()]
        assert torch.equal(logits, before), "the model's logits are left as they are"


def test_no_rows_no_tokens() -> None:
    assert Sampler(VOCAB).choose(torch.zeros(0, VOCAB), []) == []


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"min_tokens": 17}, "min_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": math.nan}, "frequency_penalty"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"repetition_penalty": math.inf}, "repetition_penalty"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": 1001}, "logprobs"),
        ({"prompt_logprobs": -1}, "prompt_logprobs"),
        ({"logit_bias": {1000: 1.0}}, "logit_bias"),
        ({"logit_bias": {-1: 1.0}}, "logit_bias"),
        ({"logit_bias": {1: math.inf}}, "logit_bias"),
        ({"stop_token_ids": (1000,)}, "stop_token_ids"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(params: dict[str, Any], name: str) -> None:
    with pytest.raises(RefusedError) as refused:
        check_sampling(SamplingParams(**params), VOCAB)
    assert refused.value.param == name
    assert name in refused.value.message
    assert refused.value.fault == "invalid"


def test_ordinary_parameters_pass() -> None:
    check_sampling(SamplingParams(), VOCAB)
    check_sampling(SamplingParams(max_tokens=0, prompt_logprobs=5), VOCAB)
    check_sampling(
        SamplingParams(logit_bias={0: -100.0, 999: 100.0}, stop_token_ids=(999,), top_k=5000, logprobs=20), VOCAB
    )
