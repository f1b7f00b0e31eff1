import dataclasses

import numpy as np
import pytest

from genai.data.tokenized import TokenizedRows
from genai.training.proofs.rendering import Piece, RenderedExample, render_examples, terminal_text


def text_of(example):
    return "".join(piece.text for piece in example.pieces)


def test_pieces_join_to_the_whole_text(chat_rows, tiny_tokenizer):
    (example,) = render_examples(
        chat_rows([("Hi?", "Grüße, 世界 🙂")]), tiny_tokenizer, 1, name_row=lambda i: f"a:{i + 1}"
    )
    assert example.source == "a:1"
    assert [(piece.text, piece.trained) for piece in example.pieces] == [
        ("<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n", False),
        ("Grüße, 世界 🙂<|im_end|>", True),
    ]
    assert [piece.num_tokens for piece in example.pieces] == [22, len("Grüße, 世界 🙂".encode()) + 1]


def test_a_bound_within_a_character_loses_nothing(chat_rows, tiny_tokenizer):
    rows = chat_rows([("Hi?", "🙂🙂")])
    whole = text_of(render_examples(rows, tiny_tokenizer, 1)[0])
    for place in range(1, rows.num_tokens):
        flags = np.arange(rows.num_tokens) >= place
        (example,) = render_examples(dataclasses.replace(rows, trained=flags), tiny_tokenizer, 1)
        assert text_of(example) == whole
        assert sum(piece.num_tokens for piece in example.pieces) == rows.num_tokens


@pytest.mark.parametrize(
    ("wanted", "shown"), [(0, []), (1, ["0"]), (3, ["0", "4", "9"]), (50, [str(i) for i in range(10)])]
)
def test_examples_are_spread_over_the_rows(tiny_tokenizer, wanted, shown):
    rows = TokenizedRows.from_lists([[5, 6, 7]] * 10)
    assert [example.source for example in render_examples(rows, tiny_tokenizer, wanted)] == shown


def test_a_terminal_shows_what_is_trained_and_no_control_codes() -> None:
    pieces = (Piece(text="ask\x1b[2J me", trained=False, num_tokens=2), Piece(text="yes\n", trained=True, num_tokens=2))
    example = RenderedExample(source="rows.jsonl:1", pieces=pieces)
    assert terminal_text(example, colour=False) == "ask me⟦yes\n⟧"
    assert terminal_text(example, colour=True) == "ask me\x1b[32myes\n\x1b[0m"
