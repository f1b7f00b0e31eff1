from typing import Any

import pytest

from genai.models.pretokenizers import PRE_TOKENIZERS, name_of


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_every_way_is_found_by_its_description(name: str) -> None:
    assert name_of(PRE_TOKENIZERS[name]) == name


def test_offsets_do_not_matter_but_splitting_does() -> None:
    way: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    assert name_of(way) == "gpt-2"
    assert name_of({**way, "add_prefix_space": True}) is None
    assert name_of(None) is None


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("gpt-2", ["Room", "Ġ", "Ġ1234", "Ġnow"]),
        ("smollm", ["Room", "ĠĠ", "1", "2", "3", "4", "Ġnow"]),
        ("llama-bpe", ["Room", "Ġ", "Ġ", "123", "4", "Ġnow"]),
        ("qwen2", ["Room", "Ġ", "Ġ", "1", "2", "3", "4", "Ġnow"]),
    ],
)
def test_tokenizers_cuts_as_the_name_says(name: str, pieces: list[str]) -> None:
    import json

    from tokenizers import Tokenizer, models

    described = {**json.loads(Tokenizer(models.BPE()).to_str()), "pre_tokenizer": PRE_TOKENIZERS[name]}
    cutter = Tokenizer.from_str(json.dumps(described)).pre_tokenizer
    assert [piece for piece, _ in cutter.pre_tokenize_str("Room  1234 now")] == pieces
