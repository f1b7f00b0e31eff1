import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.embedding.tokenizing import load_tokenizer, read_tokenizer, valid
from genai.errors import DataError


def test_the_same_tokens_as_transformers(bert: Path, texts: list[str]) -> None:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(bert)
    ours = load_tokenizer(bert)
    assert ours.num_special_tokens == 2
    for text in texts:
        for length in (3, 8, 48):
            expected = reference(text, truncation=True, max_length=length)["input_ids"]
            assert ours.sequence(text, length) == expected


def test_settings_of_the_file_are_switched_off(bert: Path) -> None:
    written = json.loads((bert / "tokenizer.json").read_text())
    assert written["truncation"]["max_length"] == 8
    assert len(load_tokenizer(bert).ids("thick " * 30)) == 30
    assert load_tokenizer(bert).ids("") == []


def test_offsets_slice_the_text(bert: Path, texts: list[str]) -> None:
    tokenizer = load_tokenizer(bert)
    for text in texts:
        offsets = tokenizer.offsets(text)
        assert len(offsets) == len(tokenizer.ids(text))
        assert [start for start, _ in offsets] == sorted(start for start, _ in offsets)
        assert all(0 <= start < end <= len(text) for start, end in offsets)
    first = tokenizer.offsets("The screed")[0]
    assert "The screed"[first[0] : first[1]].lower() in "the"


@given(st.text())
def test_any_text_can_be_cut(text: str) -> None:
    assert len(valid(text)) == len(text)
    valid(text).encode("utf-8")


@given(text=st.text(alphabet=st.characters(codec=None)))
def test_offsets_of_any_text(bert: Path, text: str) -> None:
    tokenizer = load_tokenizer(bert, lowercase=True)
    assert all(0 <= start <= end <= len(text) for start, end in tokenizer.offsets(text))


def test_small_letters_keep_the_offsets(bert: Path) -> None:
    text = "İİ Protocol"
    offsets = load_tokenizer(bert, lowercase=True).offsets(text)
    assert offsets[-1][1] == len(text)
    assert load_tokenizer(bert, lowercase=True).ids("THE Screed") == load_tokenizer(bert).ids("the screed")


def test_special_tokens_that_the_config_asks_for(fresh_bert: Callable[..., Path]) -> None:
    folder = fresh_bert()
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert load_tokenizer(folder).sequence("a", 9) == load_tokenizer(folder).ids("a")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"add_bos_token": True, "bos_token": "[CLS]", "add_eos_token": True, "eos_token": {"content": "[SEP]"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    asked = load_tokenizer(folder)
    assert asked.sequence("a", 9) == [2, *asked.ids("a"), 3]
    assert asked.sequence("a", 2) == [2, 3]


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(DataError, match="tokenizer cannot be read"):
        read_tokenizer(tmp_path / "tokenizer.json")


def test_neither_torch_nor_transformers_is_loaded(bert: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from genai.embedding.tokenizing import load_tokenizer;"
        f"load_tokenizer(Path({str(bert)!r})).offsets('a b');"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
