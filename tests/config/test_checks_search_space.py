from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from genai.config.checks_search_space import MAX_COMBINATIONS
from genai.config.embed_finetune import EmbedFinetuneConfig
from genai.config.loading import load
from genai.errors import ConfigError

Write = Callable[..., Path]
MINIMAL = """\
model: {name: sentence_encoder, pretrained_model_name_or_path: "gallery:all-minilm-l6-v2"}
data: {pairs: pairs.jsonl}
"""
SPACE = "search={space: {optimizer.lr: [1e-5, 5e-5], max_duration: [1ep, 20ba]}}"


def findings(write: Write, *overrides: str) -> list[tuple[str, str | None]]:
    """Message and fix of each fault of the minimal job with overrides."""
    try:
        load(write(MINIMAL), EmbedFinetuneConfig, overrides)
    except ConfigError as error:
        return [(problem.message, problem.fix) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    "overrides",
    [
        [SPACE],
        ["search={space: {loss.name: [multiple_negatives_ranking, cosent]}, metric: recall@10}"],
        ["search={space: {hard_negatives: [null, {num_negatives: 2}], model.peft_config.r: [8, 16]}}"],
        ["search={space: {optimizer.name: [adamw, muon], optimizer.lr: [1e-5]}}", "optimizer.lr=1e-4"],
        [SPACE, "optimizer.name=muon"],
        ["search={space: {loss: [{name: cosent}, {name: multiple_negatives_ranking, scale: 10}]}}"],
    ],
)
def test_sound_spaces_have_no_faults(write: Write, overrides: list[str]) -> None:
    assert findings(write, *overrides) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([SPACE, "search.keep=1"], "search.keep of 1 drops no trial"),
        ([SPACE, "search.shortest=0"], "search.shortest of 0 trains nothing"),
        (["search={space: {}}"], "search.space names nothing to try"),
        (["search={space: {seed: []}}"], "search.space names no values for seed"),
        (["search={space: {data.split.test: [0.1]}}"], "search cannot try values of data.split.test: trials are comp"),
        (["search={space: {evaluation.metrics: [[recall@1]]}}"], "search cannot try values of evaluation.metrics"),
        (["search={space: {variables.x: [1]}}"], "search cannot try values of variables.x"),
        (["search={space: {loss: [{name: cosent}], loss.scale: [1]}}"], "search.space has both loss and loss.scale"),
        (["search={space: {optimizer.lrr: [1e-5]}}"], "unknown key 'optimizer.lrr' (in search.space)"),
        (["search={space: {optimizer.lr: [1e-5, -1]}}"], "optimizer.lr must be a number above 0, not -1 (in search"),
        (["search={space: {max_duration: [2ep, 10]}}"], "max_duration must be"),
        (["search={space: {max_duration: [2ep, 1000tok]}}"], "max_duration of 1000tok cannot be shared out"),
        (["max_duration=1000tok", "search={space: {seed: [1, 2]}}"], "max_duration of 1000tok cannot be shared out"),
        (["search={space: {loss.name: [listwise]}}"], "search would try loss.name=listwise: the loss listwise is not"),
        (
            ["search={space: {loss.name: [cosent], hard_negatives.num_negatives: [2]}}"],
            "search would try loss.name=cosent, hard_negatives.num_negatives=2: the loss cosent",
        ),
    ],
)
def test_what_cannot_be_tried(write: Write, overrides: list[str], message: str) -> None:
    found = findings(write, *overrides)
    assert [text.startswith(message) for text, _ in found][:1] == [True], found
    assert all(fix or "must be" in text for text, fix in found)


def test_what_lies_in_the_file_counts_as_well(write: Write) -> None:
    (found,) = findings(write, "hard_negatives={}", "search={space: {loss.name: [cosent, multiple_negatives_ranking]}}")
    assert found[0].startswith("search would try loss.name=cosent: the loss cosent learns from grades of pairs")
    (unknown,) = findings(write, "optimizer.eps=1e-7", "search={space: {optimizer.name: [decoupled_lionw]}}")
    assert unknown[0] == "unknown key 'optimizer.eps' (in search.space)"


def test_faults_of_the_search_space_have_their_place_and_a_suggestion(write: Write) -> None:
    text = f"{MINIMAL}search:\n  space:\n    optimizer.lr: [1e-5]\n    optimzer.lr: [1e-4]\n    loss.scal: [10]\n"
    with pytest.raises(ConfigError) as raised:
        load(write(text), EmbedFinetuneConfig)
    assert [(problem.where, problem.fix) for problem in raised.value.problems] == [
        ("job.yaml:6:5", "did you mean 'optimizer'?"),
        ("job.yaml:7:5", "did you mean 'scale'?"),
    ]


def test_a_large_space_is_checked_value_by_value(write: Write) -> None:
    space = f"seed: {list(range(100))}, loss.scale: {list(range(1, 101))}"
    assert MAX_COMBINATIONS < 100 * 100
    assert findings(write, f"search={{space: {{{space}}}}}") == []
    (found,) = findings(write, f"search={{space: {{{space}, loss.name: [listwise]}}}}")
    assert found[0].startswith("search would try loss.name=listwise: the loss listwise is not for")
