"""`genai data`: every flag and every mistake, on small files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Genai = Callable[..., Any]
TEXTS = [
    f"Document {n}. The site office opens at {n % 12} and closes at {n % 9}; bring a helmet and boots."
    for n in range(60)
]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A JSONL file `rows.jsonl` in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text, "body": "b"}) + "\n" for text in TEXTS))
    return tmp_path / "rows.jsonl"


@pytest.fixture(scope="session")
def _tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from genai.models.tokenizer_training import save_tokenizer, train_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer") / "tok"
    save_tokenizer(train_tokenizer(TEXTS, vocab_size=320), folder)
    return folder


@pytest.fixture
def tok(_tokenizer: Path, source: Path) -> str:
    """A tokenizer as `tok` in the working folder."""
    (source.parent / "tok").symlink_to(_tokenizer)
    return "tok"


def test_without_a_helper_there_is_help(genai: Genai) -> None:
    ended = genai("data")
    assert ended.code == 2
    assert "convert" in ended.err
    assert "genai data inspect s3://bucket/docs" in ended.err


# --- mistakes: one line, exit 2 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("convert --out o", "missing argument 'SOURCE...'"),
        ("convert rows.jsonl", "missing option '--out'"),
        ("convert row.jsonl --to rows --out o", "row.jsonl: no such file or folder (did you mean 'rows.jsonl'?)"),
        ("convert *.txt --to rows --out o", "*.txt: no file matches this pattern"),
        ("convert empty --to rows --out o", "empty: the folder holds no .csv, .htm"),
        (
            "convert book.pdf --to rows --out o",
            "book.pdf: '.pdf' is no kind of file that can be converted (known: .csv",
        ),
        ("convert rows.jsonl --out o --seq-len 8", "tokens need a tokenizer (name one: --tokenizer gallery:"),
        ("convert rows.jsonl --out o --tokenizer gallery:smollm2-135m-instruct", "(e.g. --seq-len 2048)"),
        ("convert rows.jsonl --out o --tokenizer gallery:smollm --seq-len 8", "--tokenizer: "),
        (
            "convert rows.jsonl --out o --tokenizer empt --seq-len 8",
            "there is no folder 'empt' (did you mean 'empty'?)",
        ),
        ("convert rows.jsonl --out o --tokenizer x --seq-len 0", "0 is not in the range x>=2"),
        ("convert rows.jsonl --out o --tokenizer x --seq-len many", "'many' is not a valid integer range"),
        ("convert rows.jsonl --out o --to rows --split validation", "'validation' is no split (write a share below 1"),
        ("convert rows.jsonl --out o --to rows --column prompt", "'prompt' is no mapping of a column"),
        ("convert rows.jsonl --out o --to rows --compression lz4", "the compression 'lz4' is not supported"),
        ("convert rows.jsonl --out o --to rows --shard-size big", "'big' is no size: write 20GB"),
        ("convert rows.jsonl --out o --to rows --workers 0", "0 is not in the range x>=1"),
        ("convert rows.jsonl --out o --to rows --max-bad -1", "is not in the range x>=0"),
        ("convert rows.jsonl --out o --to token", "'token' is not one of 'tokens', 'rows'"),
        ("convert rows.jsonl --out o --to rows --format chatt", "'chatt' is not one of"),
        (
            "convert rows.jsonl --out o --to rows --format chat",
            "format chat needs 'messages'; the rows have text, body",
        ),
        ("convert rows.jsonl --out o --to rows --text txt", "there is no column 'txt' (did you mean 'text'?)"),
        ("convert rows.jsonl --out ftp://x/y --to rows", "unknown kind of storage 'ftp'"),
        ("convert . --out o --to rows", "--out lies in the source ."),
        ("convert delta:faq@newest --out o --to rows", "'delta:faq@newest' names no table"),
        ("inspect", "missing argument"),
        ("inspect nothing", "nothing: no such file or folder"),
        ("tokenizer rows.jsonl --vocab-size 300", "missing option '--out'"),
        ("tokenizer rows.jsonl --out t", "missing option '--vocab-size'"),
        ("tokenizer rows.jsonl --vocab-size 100 --out t", "--vocab-size: a vocabulary of 100 tokens cannot hold"),
        ("tokenizer rows.jsonl --vocab-size 300 --out empty", "empty: it already exists"),
        ("tokenizer row.jsonl --vocab-size 300 --out t", "no such file or folder (did you mean 'rows.jsonl'?)"),
        ("tokenizer rows.jsonl --vocab-size 300 --out t --text bod", "there is no column 'bod' (did you mean 'body'?)"),
        ("conver rows.jsonl", "no such command 'conver'"),
    ],
)
def test_a_mistake_is_one_line(words: str, message: str, source: Path, genai: Genai) -> None:
    (source.parent / "empty").mkdir()
    (source.parent / "book.pdf").write_text("x")
    before = sorted(path.name for path in source.parent.iterdir())
    ended = genai("data", *words.split())
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert message in ended.err
    assert ended.out == ""
    assert sorted(path.name for path in source.parent.iterdir()) == before


def test_all_mistakes_at_once(source: Path, genai: Genai) -> None:
    ended = genai(
        "data", "convert", "row.jsonl", "--out", "o", "--split", "v", "--compression", "x", "--tokenizer", "t"
    )
    lines = ended.err.splitlines()
    assert len(lines) == 5
    assert ended.code == 2


def test_a_missing_extra_is_one_line(source: Path, genai: Genai, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    ended = genai("data", "convert", "delta:faq", "--to", "rows", "--out", "o")
    assert ended.code == 2
    assert "pip install 'genai-foundry[delta]'" in ended.err


# --- rows -------------------------------------------------------------------------------------------------------------


def test_rows_and_a_look_at_them(source: Path, genai: Genai) -> None:
    done = genai("data", "convert", "rows.jsonl", "--to", "rows", "--out", "o", "--split", "validation=0.2", "--quiet")
    assert done.code == 0, done.err
    assert "o/train: " in done.out
    assert "o/validation: " in done.out
    looked = genai("data", "inspect", "o", "--json").json["data"]
    assert [item["name"] for item in looked] == ["o/train", "o/validation"]
    assert sum(item["num_samples"] for item in looked) == 60
    assert looked[0]["columns"] == {"text": "str"}
    assert genai(
        "data", "convert", "rows.jsonl", "--to", "rows", "--out", "o", "--split", "validation=0.2"
    ).out.startswith("o was converted before, nothing to do")
    other = genai("data", "convert", "rows.jsonl", "--to", "rows", "--out", "o", "--split", "validation=0.3")
    assert other.code == 2
    assert "error: o: it holds a conversion of other settings: splits was" in other.err


def test_chats_with_columns_and_compression(source: Path, genai: Genai) -> None:
    words = [
        "--to",
        "rows",
        "--out",
        "o",
        "--column",
        "prompt=text",
        "--column",
        "response=body",
        "--compression",
        "gz",
    ]
    assert genai("data", "convert", "rows.jsonl", *words, "--format", "prompt_response").code == 0
    assert [path.suffix for path in Path("o").glob("part*")] == [".gz"]
    text = genai("data", "inspect", "o", "--samples", "1", "--near-duplicates", "0").out
    assert "messages: json" in text
    assert "[1] user: Document 0." in text
    assert "nearly" not in text


def test_flags_without_effect_are_told(source: Path, genai: Genai) -> None:
    ended = genai("data", "convert", "rows.jsonl", "--to", "rows", "--out", "o", "--seq-len", "9")
    assert ended.code == 0
    assert "--seq-len has no effect with --to rows" in ended.err


def test_bad_documents_stop_it_with_exit_3(source: Path, genai: Genai) -> None:
    with open(source, "a") as stream:
        stream.write("no json\n" * 3)
    stopped = genai("data", "convert", "rows.jsonl", "--to", "rows", "--out", "o")
    assert stopped.code == 3
    assert "error: rows.jsonl:61: 3 of 63 documents cannot be used, the first: is no JSON" in stopped.err
    assert not Path("o/index.json").exists()
    done = genai("data", "convert", "rows.jsonl", "--to", "rows", "--out", "o", "--max-bad", "3")
    assert done.code == 0
    assert "left out: 3 that cannot be used, 0 empty" in done.out
    assert "rows.jsonl:61: left out: is no JSON" in done.err


def test_a_dry_run_writes_nothing(source: Path, genai: Genai) -> None:
    ended = genai("data", "convert", "rows.jsonl", "--to", "rows", "--out", "o", "--dry-run", "--workers", "3")
    assert ended.code == 0
    assert "1 parts, 3 processes" in ended.out
    assert "o (new)" in ended.out
    assert not Path("o").exists()
    plan = genai("data", "convert", "rows.jsonl", "--to", "rows", "--out", "o", "--dry-run", "--json").json["plan"]
    assert plan["inputs"][0]["name"] == "rows.jsonl"
    assert plan["settings"]["mds_columns"] == {"text": "str"}


def test_files_are_looked_at_before_they_are_converted(source: Path, genai: Genai) -> None:
    Path("notes.md").write_text("# Notes\n" + TEXTS[0])
    with open(source, "a") as stream:
        stream.write(json.dumps({"text": TEXTS[0]}) + "\nno json\n")
    ended = genai("data", "inspect", "rows.jsonl", "notes.md")
    assert ended.code == 0
    assert "62 documents in 2 files" in ended.out
    assert "1 of 62 documents exactly" in ended.out
    assert "1 documents that cannot be used" in ended.out
    assert "length of a document in characters" in ended.out


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_from_text_to_tokens_and_back(source: Path, genai: Genai) -> None:
    trained = genai("data", "tokenizer", "rows.jsonl", "--vocab-size", "300", "--out", "mine", "--json")
    assert trained.code == 0, trained.err
    assert trained.json["vocab_size"] == 300
    assert trained.json["bytes_per_token"] > 1.5
    words = ["rows.jsonl", "--tokenizer", "mine", "--seq-len", "16", "--split", "validation=0.2", "--out", "o"]
    plan = genai("data", "convert", *words, "--dry-run").out
    assert "tokens: ndarray:uint16:16" in plan
    assert "<|endoftext|> ends a document" in plan
    done = genai("data", "convert", *words, "--json").json
    counts = [lineage["counts"] for lineage in done["splits"].values()]
    assert sum(count["documents"] for count in counts) == 60
    looked = genai("data", "inspect", "o/train", "--samples", "2", "--json").json["data"][0]
    assert looked["tokens"]["tokens"] == counts[0]["rows"] * 16
    assert all(sample in TEXTS for sample in looked["samples"])
    assert looked["lineage"]["sources"][0]["name"] == "rows.jsonl"
    again = genai("data", "tokenizer", "rows.jsonl", "--vocab-size", "300", "--out", "again")
    assert "bytes a token" in again.out
    assert Path("again/tokenizer.json").read_bytes() == Path("mine/tokenizer.json").read_bytes()


@pytest.mark.integration
def test_a_tokenizer_from_a_share_of_the_text(source: Path, genai: Genai) -> None:
    words = ["rows.jsonl", "--vocab-size", "5000", "--max-size", "1kB", "--out", "part", "--text", "text"]
    ended = genai("data", "tokenizer", *words)
    assert ended.code == 0
    assert "fewer than the 5000 asked for" in ended.err
    assert "60 documents" not in ended.out


@pytest.mark.integration
def test_tokens_without_their_tokenizer(tok: str, genai: Genai) -> None:
    words = ["rows.jsonl", "--tokenizer", tok, "--seq-len", "16", "--out", "o", "--end-of-text", "<|pad|>"]
    assert genai("data", "convert", *words).code == 0
    Path(tok).unlink()
    ended = genai("data", "inspect", "o", "--samples", "1")
    assert ended.code == 0
    assert "the tokenizer of the lineage cannot be used" in ended.err
    assert "documents end" in ended.out


@pytest.mark.integration
def test_mistakes_with_a_tokenizer(tok: str, genai: Genai) -> None:
    words = ["rows.jsonl", "--tokenizer", tok, "--seq-len", "16", "--out", "o"]
    ended = genai("data", "convert", *words, "--end-of-text", "<|endoftxt|>")
    assert ended.code == 2
    assert "has no token '<|endoftxt|>' (did you mean '<|endoftext|>'?)" in ended.err
    ended = genai("data", "convert", "rows.jsonl", "--tokenizer", tok, "--seq-len", "1000000", "--out", "o")
    assert ended.code == 2
    assert "would be empty" in ended.err


@pytest.mark.integration
def test_a_delta_table(source: Path, genai: Genai) -> None:
    deltalake, pa = pytest.importorskip("deltalake"), pytest.importorskip("pyarrow")
    deltalake.write_deltalake("faq", pa.table({"text": TEXTS[:5]}))
    deltalake.write_deltalake("faq", pa.table({"text": TEXTS[5:]}), mode="append")
    done = genai("data", "convert", "delta:faq", "--to", "rows", "--out", "new", "--workers", "1", "--json").json
    lineage = done["splits"]["new"]
    assert lineage["sources"][0]["name"] == "delta:faq@1"
    assert lineage["sources"][0]["version"] == "1"
    assert lineage["sources"][0]["schema"] == {"text": "string"}
    assert lineage["counts"]["rows"] == 60
    old = genai("data", "convert", "delta:faq@0", "--to", "rows", "--out", "old", "--json").json
    assert old["splits"]["old"]["counts"]["rows"] == 5


@pytest.mark.integration
def test_a_hugging_face_data_set(source: Path, genai: Genai) -> None:
    pytest.importorskip("datasets")
    Path("set").mkdir()
    Path("set/train.jsonl").write_bytes(source.read_bytes())
    words = ["hf:./set", "--to", "rows", "--text", "text", "--out", "o", "--hf-split", "train"]
    done = genai("data", "convert", *words, "--json")
    assert done.code == 0, done.out
    assert done.json["splits"]["o"]["counts"]["rows"] == 60
    assert done.json["splits"]["o"]["sources"][0]["version"]
    ended = genai("data", "convert", "hf:./set", "--to", "rows", "--out", "p", "--hf-split", "trian")
    assert ended.code == 2
    assert "has no split 'trian'" in ended.err


@pytest.mark.integration
def test_from_one_bucket_into_another_place(source: Path, genai: Genai, s3_bucket: str) -> None:
    from genai.storage import open_store

    store = open_store(s3_bucket)
    store.upload("raw/a.jsonl", source)
    store.write("raw/b.md", b"# A page")
    done = genai("data", "convert", f"{s3_bucket}/raw", "--to", "rows", "--out", f"{s3_bucket}/rows", "--json")
    assert done.code == 0, done.out
    lineage = done.json["splits"][f"{s3_bucket}/rows"]
    assert [item["name"] for item in lineage["sources"]] == [f"{s3_bucket}/raw/a.jsonl", f"{s3_bucket}/raw/b.md"]
    assert lineage["counts"]["rows"] == 61
    assert "61 rows in 1 shards" in genai("data", "inspect", f"{s3_bucket}/rows").out
