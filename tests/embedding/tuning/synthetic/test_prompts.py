from itertools import product

import pytest

from genai.embedding.tuning.synthetic.prompts import (
    MAX_PASSAGE_CHARACTERS,
    example_queries,
    judge_prompt,
    query_prompt,
    shortened,
)


def test_a_prompt_ends_with_the_passage_and_an_open_label() -> None:
    assert query_prompt("question", "Tiles\n\nfollow.").endswith("\n\nText: Tiles follow.\nQuestion:")
    assert query_prompt("keywords", "Tiles.").endswith("Text: Tiles.\nKeywords:")
    assert query_prompt("terse", "Tiles.").endswith("Text: Tiles.\nSearch:")


def test_prompts_of_a_style_begin_alike_up_to_the_passage() -> None:
    one, other = query_prompt("question", "Tiles."), query_prompt("question", "Bricks.")
    assert one.removesuffix("Tiles.\nQuestion:") == other.removesuffix("Bricks.\nQuestion:")


def test_every_style_and_turn_asks_something_else() -> None:
    prompts = {
        query_prompt(style, "x", turn=turn) for style, turn in product(("question", "keywords", "terse"), (0, 1))
    }
    assert len(prompts) == 6
    assert query_prompt("question", "x", turn=2) == query_prompt("question", "x", turn=0)


def test_all_examples_are_known() -> None:
    prompts = [query_prompt(style, "x", turn=turn) for style in ("question", "keywords", "terse") for turn in (0, 1)]
    shown = [line.partition(": ")[2] for prompt in prompts for line in prompt.splitlines() if ": " in line]
    assert set(example_queries()) <= set(shown)
    assert len(set(example_queries())) == 12


def test_a_judge_gets_both() -> None:
    prompt = judge_prompt("how thick?", "Sixty {braces} millimetres.")
    assert prompt.endswith("Text: Sixty {braces} millimetres.\nQuestion: how thick?\nAnswer:")


@pytest.mark.parametrize("text", ["word " * 1000, "x" * 5000])
def test_long_passages_are_shortened(text: str) -> None:
    short = shortened(text)
    assert 0 < len(short) <= MAX_PASSAGE_CHARACTERS
    assert text.startswith(short)
    assert not short.endswith("wor")
    assert shortened(short) == short
