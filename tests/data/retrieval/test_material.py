"""Pairs and documents as users have them, read into passages and pairs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from genai.config.embed_finetune import CorpusConfig, RetrievalDataConfig, RetrievalSplitConfig
from genai.config.index import ChunkingConfig
from genai.data.faults import DataConfigError
from genai.data.retrieval.material import Material, read_material
from genai.data.retrieval.passages import text_key


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def write_rows(name: str, *rows: Any) -> str:
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (tmp_path / name).write_text("".join(line + "\n" for line in lines))
        return name

    return write_rows


def texts(material: Material) -> dict[str, str]:
    return {passage.key: passage.text for passage in material.passages}


def words(text: str) -> list[tuple[int, int]]:
    """Offsets of a tokenizer whose tokens are words."""
    found, start = [], 0
    for word in text.split():
        start = text.index(word, start)
        found.append((start, start + len(word)))
        start += len(word)
    return found


def test_pairs_make_the_corpus_and_equal_texts_are_one_passage(write: Any) -> None:
    pairs = write(
        "pairs.jsonl",
        {"query": " who? ", "positive": "He.\n"},
        {"query": "who else?", "positive": "He."},
        {"query": "what?", "positive": "That."},
    )
    material = read_material(RetrievalDataConfig(pairs=pairs))
    assert list(texts(material).values()) == ["He.", "That."]
    assert [(pair.query, texts(material)[pair.positive], pair.source) for pair in material.pairs] == [
        ("who?", "He.", "pairs.jsonl:1"),
        ("who else?", "He.", "pairs.jsonl:2"),
        ("what?", "That.", "pairs.jsonl:3"),
    ]
    assert (material.kind, material.num_rows, material.columns) == ("pairs", 3, ("query", "positive"))
    first = material.passages[0]
    assert first.key == first.document == text_key("He.")
    assert first.source == "pairs.jsonl:1"


def test_columns_are_renamed_and_a_document_is_named_by_id(write: Any) -> None:
    pairs = write("pairs.csv", "id,q,a", "faq-1,who?,He.", "faq-2,what?,That.", "faq-3,whatever?,That.")
    material = read_material(RetrievalDataConfig(pairs=pairs, columns={"query": "q", "positive": "a"}))
    assert texts(material) == {"faq-1": "He.", "faq-2": "That."}
    assert [pair.positive for pair in material.pairs] == ["faq-1", "faq-2", "faq-2"]
    assert material.names == {"faq-3": ("faq-2",)}


def test_several_texts_of_one_id_are_passages_of_one_document(write: Any) -> None:
    rows = [{"query": f"q{n}", "positive": f"Text {n}.", "id": "book"} for n in range(2)]
    material = read_material(RetrievalDataConfig(pairs=write("pairs.jsonl", *rows, {"query": "q", "id": "book"})))
    assert [passage.document for passage in material.passages] == ["book", "book"]
    assert material.names["book"] == tuple(texts(material))
    assert [bad.reason for bad in material.bad] == ["'book' has 2 texts, and no text in 'positive'"]


def test_triplets(write: Any) -> None:
    pairs = write(
        "pairs.jsonl",
        {"query": "a?", "positive": "A.", "negative": "B."},
        {"query": "b?", "positive": "B.", "id": "b", "negative": ["A.", "C.", " ", "C."]},
        {"query": "c?", "positive": "C.", "negative": None},
    )
    material = read_material(RetrievalDataConfig(pairs=pairs))
    said = texts(material)
    assert [[said[key] for key in pair.negatives] for pair in material.pairs] == [["B."], ["A.", "C."], []]
    assert material.kind == "triplets"
    # "B." is first met as a negative, and still is the document that its positive names
    assert [passage.document for passage in material.passages if passage.text == "B."] == ["b"]


def test_graded_pairs(write: Any) -> None:
    pairs = write(
        "pairs.jsonl",
        {"query": "a", "positive": "A.", "score": 5},
        {"query": "a", "positive": "B.", "score": "0.5"},
        {"query": "a", "positive": "C."},
        {"query": "a", "positive": "D.", "score": "high"},
    )
    material = read_material(RetrievalDataConfig(pairs=pairs))
    assert material.kind == "graded"
    assert [pair.score for pair in material.pairs] == [5.0, 0.5]
    assert [(bad.source, bad.reason) for bad in material.bad] == [
        ("pairs.jsonl:3", "has no 'score', which other rows have"),
        ("pairs.jsonl:4", "the score 'high' is no number"),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"positive": "A."}, "there is no text in 'query'"),
        ({"query": "  ", "positive": "A."}, "there is no text in 'query'"),
        ({"query": 3, "positive": "A."}, "'query' is no text"),
        ({"query": "a"}, "there is no text in 'positive'"),
        ({"query": "a", "positive": ["A."]}, "'positive' is no text"),
        ({"query": "a", "positive": "A.", "negative": 3}, "'negative' is neither a text nor a list of texts"),
        ({"query": "a", "positive": "A.", "negative": ["B.", 3]}, "'negative' is neither a text nor a list of texts"),
        ({"query": "a", "id": "nowhere"}, "there is no document 'nowhere', and no text in 'positive'"),
        ({"query": "a", "positive": "A.", "id": True}, "'id' names nothing"),
    ],
)
def test_rows_that_cannot_be_used_are_named_with_their_line(write: Any, row: Any, reason: str) -> None:
    fine = {"query": "fine", "positive": "Fine."}
    material = read_material(RetrievalDataConfig(pairs=write("pairs.jsonl", fine, row, "{no json}", fine)))
    assert [bad.source for bad in material.bad if bad.reason == reason] == ["pairs.jsonl:2"]
    assert len(material.bad) == 2
    assert (len(material.pairs), material.num_rows) == (2, 4)


def test_missing_columns_are_told_with_a_mapping(write: Any) -> None:
    pairs = write("pairs.jsonl", {"Question": "who?", "a": "He."})
    with pytest.raises(DataConfigError) as caught:
        read_material(RetrievalDataConfig(pairs=pairs))
    assert caught.value.key == "data.columns"
    assert str(caught.value) == (
        "pairs.jsonl:1: pairs need 'query' and 'positive'; the rows have Question, a"
        " (set data.columns: {query: Question, positive: a})"
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"query": "qq"}, "there is no column 'qq' .did you mean 'q'"),
        ({"qurey": "q"}, "nothing is called 'qurey' here .did you mean 'query'"),
    ],
)
def test_a_column_that_does_not_exist_is_told_with_the_nearest(write: Any, columns: Any, message: str) -> None:
    pairs = write("pairs.jsonl", {"q": "who?", "positive": "He."})
    with pytest.raises(DataConfigError, match=message) as caught:
        read_material(RetrievalDataConfig(pairs=pairs, columns=columns))
    assert caught.value.key == "data.columns"


def test_a_reference_that_leads_nowhere_is_told_at_its_key(write: Any) -> None:
    with pytest.raises(DataConfigError, match=r"nothing\.jsonl") as caught:
        read_material(RetrievalDataConfig(pairs="nothing.jsonl"))
    assert caught.value.key == "data.pairs"
    write("empty.jsonl")
    with pytest.raises(DataConfigError, match="empty") as caught:
        read_material(RetrievalDataConfig(corpus=CorpusConfig(path="empty.jsonl")))
    assert caught.value.key == "data.corpus.path"


def test_groups(write: Any) -> None:
    rows = [{"query": f"q{n}", "positive": f"A{n}.", "file": n % 2, "group": "g"} for n in range(4)]
    path = write("pairs.jsonl", *rows, {"query": "q", "positive": "A."})
    material = read_material(RetrievalDataConfig(pairs=path, split=RetrievalSplitConfig(group_by="file")))
    assert [pair.group for pair in material.pairs] == ["[0]", "[1]", "[0]", "[1]"]
    assert [bad.reason for bad in material.bad] == ["has no 'file', which data.split.group_by names"]
    assert {pair.group for pair in read_material(RetrievalDataConfig(pairs=path)).pairs} == {'"g"', None}
    with pytest.raises(DataConfigError, match="did you mean 'file'") as caught:
        read_material(RetrievalDataConfig(pairs=path, split=RetrievalSplitConfig(group_by="fiel")))
    assert caught.value.key == "data.split.group_by"


def test_max_pairs_takes_the_first(write: Any) -> None:
    rows = [{"query": f"q{n}", "positive": f"A{n}."} for n in range(40)]
    material = read_material(RetrievalDataConfig(pairs=write("pairs.jsonl", *rows), max_pairs=30))
    assert [pair.query for pair in material.pairs] == [f"q{n}" for n in range(30)]


def test_a_corpus_of_rows(write: Any, caplog: pytest.LogCaptureFixture) -> None:
    corpus = write(
        "corpus.jsonl",
        {"id": 1, "head": "First", "text": "One."},
        {"id": 2, "head": None, "text": "Two."},
        {"id": 3, "text": "One."},
        {"id": 2, "text": "Three."},
        {"id": 4, "text": ""},
        {"id": 1, "text": "One."},
    )
    pairs = write(
        "pairs.jsonl",
        {"query": "a", "id": 3},
        {"query": "b", "positive": "Two."},
        {"query": "c", "positive": "Elsewhere."},
        {"query": "d", "positive": "Otherwise.", "id": "1"},
    )
    config = RetrievalDataConfig(pairs=pairs, corpus=CorpusConfig(path=corpus, title="head"))
    material = read_material(config)
    assert texts(material) == {"1": "One.", "2": "Two.", text_key("Elsewhere."): "Elsewhere."}
    assert [passage.title for passage in material.passages] == ["First", None, None]
    assert [pair.positive for pair in material.pairs] == ["1", "2", text_key("Elsewhere."), "1"]
    assert [(bad.source, bad.reason) for bad in material.bad] == [
        ("corpus.jsonl:4", "the key '2' stands at corpus.jsonl:2 already, with another text"),
        ("corpus.jsonl:5", "there is no text in 'text'"),
    ]
    assert (
        "1 texts of the pairs are not in the corpus and were added to it, the first from pairs.jsonl:3" in caplog.text
    )
    assert material.num_rows == 10


def test_a_corpus_without_keys_and_of_several_columns(write: Any) -> None:
    corpus = write("corpus.jsonl", {"title": "T", "body": "B"}, {"title": None, "body": "C"})
    material = read_material(RetrievalDataConfig(corpus=CorpusConfig(path=corpus, text=["title", "body"])))
    assert texts(material) == {text_key("T\n\nB"): "T\n\nB", text_key("C"): "C"}
    assert material.kind == "corpus"
    with pytest.raises(DataConfigError, match="did you mean 'body'") as caught:
        read_material(RetrievalDataConfig(corpus=CorpusConfig(path=corpus, text="bodi")))
    assert caught.value.key == "data.corpus.text"


def test_chunks_and_the_pairs_that_mean_them(write: Any) -> None:
    corpus = write("corpus.jsonl", {"id": "long", "text": "one two three four five"}, {"id": "short", "text": "six"})
    pairs = write(
        "pairs.jsonl",
        {"query": "a", "id": "long", "positive": "four five"},
        {"query": "b", "id": "short"},
        {"query": "c", "id": "long"},
        {"query": "d", "id": "long", "positive": "nowhere"},
        {"query": "e", "id": "long#0"},
    )
    chunking = ChunkingConfig(name="tokens", max_tokens=3)
    config = RetrievalDataConfig(pairs=pairs, corpus=CorpusConfig(path=corpus, chunking=chunking))
    material = read_material(config, token_offsets=words)
    assert texts(material) == {"long#0": "one two three", "long#1": "four five", "short#0": "six"}
    assert [passage.document for passage in material.passages] == ["long", "long", "short"]
    assert [pair.positive for pair in material.pairs] == ["long#1", "short#0", "long#0"]
    assert [bad.reason for bad in material.bad] == [
        "'long' is cut into 2 passages: say which by its text in 'positive'",
        "none of the 2 passages of 'long' holds the text of 'positive'",
    ]
    assert material.names == {"long": ("long#0", "long#1"), "short": ("short#0",)}
    with pytest.raises(ValueError, match="token_offsets"):
        read_material(config)


def test_a_folder_of_documents(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "below").mkdir(parents=True)
    (folder / "a.md").write_text("# Roofs\n\nA roof is steep.\n\n## Gutters\n\nA gutter is not.\n")
    (folder / "below" / "b.txt").write_text("Plain text.")
    (folder / "c.pdf").write_text("no pdf")
    chunking = ChunkingConfig(name="heading", max_tokens=50)
    config = RetrievalDataConfig(corpus=CorpusConfig(path=str(folder), chunking=chunking))
    material = read_material(config, token_offsets=words)
    assert [(passage.key, passage.title) for passage in material.passages] == [
        ("a.md#0", "Roofs"),
        ("a.md#1", "Gutters"),
        ("below/b.txt#0", None),
    ]
    assert material.passages[1].source == str(folder / "a.md")
    assert [(bad.source, bad.reason) for bad in material.bad] == [
        (str(folder / "c.pdf"), "it is no PDF, but something else")
    ]
    (folder / "rows.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(DataConfigError, match=r"holds documents .* as well as data files") as caught:
        read_material(config, token_offsets=words)
    assert caught.value.key == "data.corpus.path"
    by_pattern = RetrievalDataConfig(corpus=CorpusConfig(path=f"{folder}/*.jsonl"))
    assert list(texts(read_material(by_pattern)).values()) == ["x"]


class ToyTable:
    """A Delta table of one file."""

    uri = "toy"
    version = 7
    schema: Mapping[str, str] = MappingProxyType({})
    file_bytes: Sequence[int] = (1,)

    def rows(self, start: int, end: int) -> Iterator[dict[str, Any]]:
        yield {"id": 1, "text": "One."}


def test_tables_are_read_and_their_version_is_noted() -> None:
    config = RetrievalDataConfig(corpus=CorpusConfig(path="delta:toy"))
    material = read_material(config, open_table=lambda uri, version: ToyTable())
    assert texts(material) == {"1": "One."}
    assert material.tables == {"delta:toy": {"uri": "toy", "version": 7}}
    with pytest.raises(DataConfigError) as caught:
        read_material(config)
    assert caught.value.key == "data.corpus.path"


@pytest.mark.integration
def test_the_construction_faq() -> None:
    columns = {"query": "q", "positive": "a"}
    config = RetrievalDataConfig(pairs="gallery:construction-faq-en", columns=columns)
    material = read_material(config)
    assert (len(material.pairs), len(material.bad), material.passages[0].key) == (503, 0, "bygglov-001")
