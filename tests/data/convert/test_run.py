"""Whole conversions: the same bytes however many workers there were and however often they were killed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from genai.data.convert import run as running
from genai.data.convert.parts import Work
from genai.data.convert.run import convert, find_converted
from genai.data.mds import MDSWriter, read_index, read_samples
from genai.errors import GateError, GenaiError, UsageError
from genai.storage import open_store
from genai.storage.locks import exclusive

Prepare = Callable[..., Any]
Lines = Callable[..., Path]


def make_texts(count: int, seed: int = 0) -> list[str]:
    generator = random.Random(seed)
    return ["".join(generator.choices("abcdefgh é\n", k=generator.randrange(1, 60))) for _ in range(count)]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def tokens_of(url: Path | str) -> list[int]:
    return [token for sample in read_samples(str(url)) for token in sample["tokens"].tolist()]


def test_all_tokens_come_out_in_order(prepare: Prepare, lines: Lines, tmp_path: Path) -> None:
    texts = make_texts(40)
    work, inputs = prepare(lines(texts))
    assert len(inputs.parts) > 5
    done = convert(work, inputs, num_workers=1, max_bad=0)
    (lineage,) = done.lineages
    counts = lineage["counts"]
    found = tokens_of(tmp_path / "out")
    assert counts["tokens"] == sum(len(text.encode()) + 1 for text in texts)
    assert len(found) == counts["rows"] * 8 == counts["tokens"] - counts["dropped_tokens"]
    assert counts["dropped_tokens"] < 8
    assert counts["documents"] == 40
    assert found.count(0) in (39, 40)
    assert not (tmp_path / "out" / ".convert").exists()
    assert not list(tmp_path.glob(".out.lock"))


def test_lineage_tells_sources_settings_and_counts(prepare: Prepare, lines: Lines, tmp_path: Path) -> None:
    work, inputs = prepare(lines(make_texts(20)), shares={"validation": 0.3})
    convert(work, inputs, num_workers=1, max_bad=0)
    for split in ("train", "validation"):
        lineage = json.loads((tmp_path / "out" / split / "lineage.json").read_text())
        assert lineage["split"] == split
        assert lineage["sources"] == [found.identity() for found in inputs.inputs]
        assert lineage["tokenizer"]["fingerprint"] == "f"
        assert lineage["settings"]["seq_len"] == 8
        samples = sum(shard.samples for shard in read_index(str(tmp_path / "out" / split)))
        assert lineage["counts"]["rows"] == samples > 0


@pytest.mark.integration
def test_the_output_does_not_depend_on_the_number_of_workers(prepare: Prepare, lines: Lines, tmp_path: Path) -> None:
    source = lines(make_texts(60))
    outs = []
    for workers in (1, 3):
        work, inputs = prepare(source, out=str(tmp_path / f"out-{workers}"), shares={"validation": 0.2})
        convert(work, inputs, num_workers=workers, max_bad=0)
        outs.append(files_of(tmp_path / f"out-{workers}"))
    assert outs[0] == outs[1]


@pytest.mark.parametrize("parts_before", [0, 1, 4])
def test_a_stopped_conversion_goes_on_to_the_same_bytes(
    parts_before: int, prepare: Prepare, lines: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lines(make_texts(40))
    whole, inputs = prepare(source, out=str(tmp_path / "whole"), shares={"validation": 0.2})
    convert(whole, inputs, num_workers=1, max_bad=0)
    work, inputs = prepare(source, shares={"validation": 0.2})
    original = Work.convert
    converted: list[int] = []

    def stop_later(self: Work, part: Any, report: Any) -> Any:
        result = original(self, part, report)  # its shards are written, its record is not
        if len(converted) == parts_before:
            raise KeyboardInterrupt
        converted.append(part.index)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(Work, "convert", stop_later)
        with pytest.raises(KeyboardInterrupt):
            convert(work, inputs, num_workers=1, max_bad=0)
    assert not (tmp_path / "out" / "train" / "index.json").exists()
    again: list[int] = []
    monkeypatch.setattr(Work, "convert", lambda *args: again.append(args[1].index) or original(*args))
    convert(work, inputs, num_workers=1, max_bad=0)
    assert sorted(again + converted) == [part.index for part in inputs.parts]
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_a_stop_between_two_indexes_is_mended(
    prepare: Prepare, lines: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, inputs = prepare(lines(make_texts(40)), shares={"validation": 0.2})
    original = running.write_index
    monkeypatch.setattr(running, "write_index", lambda url, shards: original(url, shards) if "train" in url else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert(work, inputs, num_workers=1, max_bad=0)
    monkeypatch.setattr(running, "write_index", original)
    assert not convert(work, inputs, num_workers=1, max_bad=0).was_there
    assert convert(work, inputs, num_workers=1, max_bad=0).was_there


def test_the_same_again_does_nothing_and_another_is_refused(prepare: Prepare, lines: Lines, tmp_path: Path) -> None:
    source = lines(make_texts(20))
    work, inputs = prepare(source)
    first = convert(work, inputs, num_workers=1, max_bad=0)
    before = files_of(tmp_path / "out")
    again = convert(work, inputs, num_workers=2, max_bad=0)
    assert again.was_there
    assert again.lineages == first.lineages
    assert files_of(tmp_path / "out") == before
    with pytest.raises(UsageError, match=r"other settings: seq_len was 8, now it is 4"):
        convert(*prepare(source, seq_len=4), num_workers=1, max_bad=0)
    with pytest.raises(UsageError, match=r"splits was {}, now it is"):
        convert(*prepare(source, shares={"validation": 0.2}), num_workers=1, max_bad=0)
    lines(make_texts(21))
    with pytest.raises(UsageError, match=r"other inputs: .*rows.jsonl has changed since"):
        convert(*prepare(source), num_workers=1, max_bad=0)
    lines(make_texts(20))
    with pytest.raises(UsageError, match=r"other inputs: .*more.jsonl is new"):
        convert(*prepare(source, lines(["x"], "more.jsonl")), num_workers=1, max_bad=0)


def test_a_stopped_one_of_other_settings_is_refused(prepare: Prepare, lines: Lines, tmp_path: Path) -> None:
    source = lines([*make_texts(20)])
    with open(source, "a") as stream:
        stream.write("no json\n")
    with pytest.raises(GateError):
        convert(*prepare(source), num_workers=1, max_bad=0)
    work, _ = prepare(source, seed=3)
    with pytest.raises(UsageError, match="seed was 17, now it is 3"):
        find_converted(work, {"settings": work.settings.to_json(), "sources": [], "format_version": 1})


def test_strangers_are_left_alone(prepare: Prepare, lines: Lines, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("years of work")
    with pytest.raises(UsageError, match=r"there is something already: thesis\.doc"):
        convert(*prepare(lines(["x"])), num_workers=1, max_bad=0)
    with MDSWriter(str(tmp_path / "other"), {"text": "str"}) as writer:
        writer.write({"text": "x"})
    with pytest.raises(UsageError, match=r"there is something already: index\.json"):
        convert(*prepare(lines(["x"]), out=str(tmp_path / "other")), num_workers=1, max_bad=0)


@pytest.mark.parametrize(("max_bad", "stops"), [(0, True), (1, True), (2, False), (0.05, True), (0.2, False)])
def test_too_many_bad_documents_stop_it_before_there_is_an_index(
    max_bad: float, stops: bool, prepare: Prepare, lines: Lines, tmp_path: Path
) -> None:
    source = lines(make_texts(18))
    with open(source, "a") as stream:
        stream.write('{"text": 1}\nno json\n')
    work, inputs = prepare(source)
    if stops:
        with pytest.raises(GateError) as caught:
            convert(work, inputs, num_workers=1, max_bad=max_bad)
        assert f"{source}:19: " in str(caught.value)
        assert "raise --max-bad" in str(caught.value)
        assert not (tmp_path / "out" / "index.json").exists()
    done = convert(work, inputs, num_workers=1, max_bad=0.2)
    assert done.lineages[0]["left_out"]["bad"] == 2
    assert done.lineages[0]["left_out"]["examples"][0]["source"] == f"{source}:19"


def test_an_empty_split_is_told(prepare: Prepare, lines: Lines, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the split 'validation' would be empty: 0 tokens fill no row of 8"):
        convert(*prepare(lines(["x" * 99]), shares={"validation": 0.0001}), num_workers=1, max_bad=0)
    with pytest.raises(UsageError, match=r"the data set would be empty: 2 tokens fill no row of 8"):
        convert(*prepare(lines(["x"], "one.jsonl"), out=str(tmp_path / "one")), num_workers=1, max_bad=0)


def test_two_at_once_in_a_folder(prepare: Prepare, lines: Lines, tmp_path: Path) -> None:
    work, inputs = prepare(lines(["x" * 50]))
    with exclusive(tmp_path / "out", timeout_s=0), pytest.raises(GenaiError, match="another process is converting"):
        convert(work, inputs, num_workers=1, max_bad=0)
    convert(work, inputs, num_workers=1, max_bad=0)


@pytest.fixture
def bucket_out(s3_bucket: str) -> Iterator[str]:
    yield f"{s3_bucket}/docs"


@pytest.mark.integration
def test_into_a_bucket(prepare: Prepare, lines: Lines, bucket_out: str, tmp_path: Path) -> None:
    source = lines(make_texts(40))
    local, inputs = prepare(source)
    convert(local, inputs, num_workers=1, max_bad=0)
    work, inputs = prepare(source, out=bucket_out)
    convert(work, inputs, num_workers=2, max_bad=0)
    store = open_store(bucket_out)
    assert {info.key: store.read(info.key) for info in store.list()} == files_of(tmp_path / "out")
    assert convert(work, inputs, num_workers=1, max_bad=0).was_there
