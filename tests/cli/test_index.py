"""`genai index` as a user types it: real tables, a real ledger and engine, a model of a few words."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from index_jobs import (
    NEW_TEXT,
    ROWS,
    delete_rows,
    make_word_model,
    merge_rows,
    write_job,
    write_queries,
    write_table,
)

Genai = Callable[..., Any]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a table, a model and a job file."""
    monkeypatch.chdir(tmp_path)
    make_word_model(tmp_path / "model")
    write_table(tmp_path / "table")
    write_job(tmp_path / "rooms.yaml")
    return tmp_path


def lines_of(text: str) -> dict[str, str]:
    """Of a summary: name -> text."""
    return {line[:9].strip(): line[10:] for line in text.splitlines()}


def test_an_index_is_built_asked_and_kept_in_step(place: Path, genai: Genai) -> None:
    built = genai("index", "rooms.yaml")
    assert built.code == 0, built.err
    told = lines_of(built.out)
    assert told["index"] == "rooms: 5 documents, 5 chunks"
    assert told["documents"] == "5 taken over, 0 removed, 0 could not be read"
    assert told["embedded"].startswith("5 new, 0 reused (")
    assert told["source"] == "delta:table, version 0"
    assert told["report"] == "runs/rooms-1/report.html"
    asked = genai("index", "query", "rooms", "how", "thick", "is", "the", "screed", "--k", "2")
    assert asked.code == 0, asked.err
    first, *_ = asked.out.split("\n\n")
    assert first.splitlines()[0].split()[:1] == ["1"]
    assert "the screed under the tiles" in first
    assert "topic=floors  year=2020" in first

    assert lines_of(genai("index", "rooms.yaml").out)["index"] == "rooms: 5 documents, 5 chunks; up to date"
    merge_rows(place / "table", [{**ROWS[0], "text": NEW_TEXT}])
    delete_rows(place / "table", 5)
    again = genai("index", "rooms.yaml", "--json")
    assert again.code == 0, again.err
    account = again.json["account"]
    assert (account["documents_upserted"], account["documents_deleted"], account["embeddings_new"]) == (1, 1, 1)
    assert again.json["run"] == "rooms-2"
    found = genai("index", "query", "rooms", "chimney sweep", "--json").json
    assert found["results"][0]["key"] == "1"
    assert found["results"][0]["text"] == NEW_TEXT
    assert all(result["key"] != "5" for result in found["results"])


def test_filters_columns_modes_and_thresholds(place: Path, genai: Genai) -> None:
    assert genai("index", "rooms.yaml").code == 0

    def keys(*words: str) -> list[str]:
        ended = genai("index", "query", "rooms", *words, "--json")
        assert ended.code == 0, ended.err
        return [result["key"] for result in ended.json["results"]]

    assert set(keys("tiles", "--filter", "topic=roofs")) == {"3", "4"}
    assert keys("tiles", "--filter", "topic=roofs", "--filter", "year >= 2021") == ["4"]
    assert keys("gutter", "--mode", "bm25") == ["4"]
    assert keys("gutter", "--mode", "hybrid")[0] == "4"
    assert keys("gutter", "--threshold", "0.99") == []
    result = genai("index", "query", "rooms", "gutter", "--columns", "year", "--k", "1", "--json").json["results"][0]
    assert result["metadata"] == {"year": 2022}
    assert genai("index", "query", "rooms", "gutter", "--threshold", "0.99").out == "nothing found\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["query", "rooms"], "the query is empty"),
        (["query", "room", "x"], "there is no index 'room' in indexes (did you mean 'rooms'?)"),
        (["query", "rooms", "x", "--filter", "topik=a"], "did you mean 'topic'?"),
        (["query", "rooms", "x", "--columns", "yaer"], "did you mean 'year'?"),
        (["query", "rooms", "x", "--tenant", "me"], "the index has no tenants"),
        (["query", "rooms", "x", "--rerank"], "the index has no reranker"),
        (["query", "rooms", "x", "--tune"], "--tune needs --evaluate FILE"),
        (["query", "rooms", "x", "--evaluate", "q.jsonl"], "with --evaluate the queries come from the file"),
        (["query", "rooms", "--evaluate", "q.jsonl", "--k", "3"], "--k has no effect with --evaluate"),
        (["query", "../rooms", "x"], "cannot be used as a name for an index"),
        (["upsert", "rooms", "q.jsonl"], "index 'rooms' follows delta:table"),
        (["delete", "rooms", "1"], "index 'rooms' follows delta:table"),
        (["rollback", "rooms"], "index 'rooms' has no earlier generation"),
        (["swap", "rooms", "--embedding", "./model"], "say how the new encoder is judged"),
        (["swap", "rooms", "--embedding", "./model", "--without-evaluation"], "is embedded by this already"),
        (["swap", "rooms", "k=2", "--embedding", "x", "--without-evaluation"], "this is no setting of the encoder"),
    ],
)
def test_mistakes_of_a_user_are_one_line(place: Path, genai: Genai, words: list[str], message: str) -> None:
    write_queries(place / "q.jsonl")
    assert genai("index", "rooms.yaml").code == 0
    ended = genai("index", *words)
    assert ended.code == 2, ended.err
    assert message in ended.err
    assert ended.err.startswith("error: ") and ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("source.text=txt", "txt"),
        ("source.table=delta:nothing", "there is no Delta table"),
        ("source.metadata=[topik]", "topik"),
        ("embedding.model=./nothing", "nothing"),
        ("name=../x", "cannot be used as a name for an index"),
        ("embedding.dimension=999", "has vectors of 256 numbers"),
    ],
)
def test_mistakes_in_the_job_file_leave_nothing_behind(place: Path, genai: Genai, override: str, message: str) -> None:
    ended = genai("index", "rooms.yaml", override)
    assert ended.code in (1, 2), ended.err
    assert message in ended.err
    assert "bug" not in ended.err
    assert not (place / "runs").exists()


def test_the_run_is_kept_with_its_lineage(place: Path, genai: Genai) -> None:
    assert genai("index", "rooms.yaml").code == 0
    run = place / "runs" / "rooms-1"
    inputs = json.loads((run / "inputs.json").read_text())
    assert inputs["source"]["uri"] == "delta:table"
    assert inputs["source"]["to"]["version"] == 0
    assert inputs["embedding"]["model"] == "./model"
    assert len(inputs["embedding"]["fingerprint"]) >= 16
    assert yaml.safe_load((run / "config.yaml").read_text())["name"] == "rooms"
    assert json.loads((run / "result.json").read_text())["generation"] == "g1"
    assert json.loads((run / "status.json").read_text())["status"] == "done"
    report = (run / "report.html").read_text()
    assert report.count("<circle") == 5
    assert "delta:table" in report
    shown = genai("runs", "show", "rooms-1", "--json")
    assert shown.json["status"] == "done"


def test_a_sync_without_changes_makes_no_run(place: Path, genai: Genai) -> None:
    assert genai("index", "rooms.yaml").code == 0
    merge_rows(place / "table", [ROWS[0]])  # a new version that says nothing new
    for _ in range(2):
        ended = genai("index", "rooms.yaml", "--json")
        assert (ended.code, ended.json["did"], ended.json["run"]) == (0, "nothing", None)
    assert [path.name for path in (place / "runs").iterdir()] == ["rooms-1"]


def test_how_queries_are_answered_changes_without_a_run(place: Path, genai: Genai) -> None:
    assert genai("index", "rooms.yaml").code == 0
    assert genai("index", "rooms.yaml", "search={k: 2, mode: bm25}", "--json").json["did"] == "nothing"
    found = genai("index", "query", "rooms", "tiles a", "--json").json
    assert (found["mode"], len(found["results"])) == ("bm25", 2)


def test_a_name_of_a_run(place: Path, genai: Genai) -> None:
    assert genai("index", "rooms.yaml", "--run-name", "first", "--json").json["run"] == "first"
    merge_rows(place / "table", [{**ROWS[0], "text": NEW_TEXT}])
    assert genai("index", "rooms.yaml", "--run-name", "first", "--json").json["run"] == "first-2"


def test_what_would_vanish_is_not_removed_unasked(place: Path, genai: Genai) -> None:
    assert genai("index", "rooms.yaml").code == 0
    delete_rows(place / "table", 1, 2, 3)
    refused = genai("index", "rooms.yaml")
    assert refused.code == 1
    assert "3 of 5 documents would vanish" in refused.err
    assert "--allow-mass-delete" in refused.err
    assert len(genai("index", "query", "rooms", "tiles", "--json").json["results"]) == 5
    allowed = genai("index", "rooms.yaml", "--allow-mass-delete", "--json")
    assert (allowed.code, allowed.json["documents"]) == (0, 2)


def test_a_dry_run_writes_nothing(place: Path, genai: Genai) -> None:
    planned = genai("index", "rooms.yaml", "--dry-run")
    assert planned.code == 0, planned.err
    told = {line.split("  ")[0]: line for line in planned.out.splitlines()}
    assert "new; nothing was written" in told["index"]
    assert "5 new, 0 changed, 0 unchanged, 0 gone" in told["documents"]
    assert "topic: keyword, year: integer" in told["columns"]
    assert not (place / "indexes").exists() and not (place / "runs").exists()
    assert genai("index", "rooms.yaml").code == 0
    merge_rows(place / "table", [{**ROWS[0], "text": NEW_TEXT}])
    delete_rows(place / "table", 5)
    before = {path: path.stat().st_mtime_ns for path in (place / "indexes").rglob("*.db")}
    plan = genai("index", "rooms.yaml", "--dry-run", "--json").json
    assert (plan["new"], plan["changed"], plan["gone"], plan["chunks"]) == (0, 1, 1, 1)
    assert {path: path.stat().st_mtime_ns for path in (place / "indexes").rglob("*.db")} == before


def test_a_direct_index_takes_rows_by_hand(place: Path, genai: Genai, monkeypatch: pytest.MonkeyPatch) -> None:
    source = {"direct": True, "metadata": {"topic": "keyword", "year": "integer"}, "tenant": "who"}
    write_job(place / "notes.yaml", name="notes", source=source)
    made = genai("index", "notes.yaml")
    assert made.code == 0, made.err
    empty = genai("index", "query", "notes", "tiles", "--tenant", "a")
    assert (empty.code, "holds nothing to search yet" in empty.err) == (2, True)
    rows = [{**row, "who": "a" if row["id"] < 4 else "b"} for row in ROWS]
    (place / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    put = genai("index", "upsert", "notes", "rows.jsonl", "--json")
    assert (put.code, put.json["did"], put.json["documents"]) == (0, "upsert", 5)
    assert genai("index", "upsert", "notes", "rows.jsonl", "--json").json["did"] == "nothing"
    refused = genai("index", "query", "notes", "tiles")
    assert refused.code == 2 and "--tenant" in refused.err
    found = genai("index", "query", "notes", "tiles", "--tenant", "a", "--json").json["results"]
    assert {result["key"] for result in found} == {"1", "2", "3"}
    assert found[0]["source"].startswith("rows.jsonl")
    assert genai("index", "delete", "notes", "1", "9", "--json").json["documents"] == 4
    monkeypatch.setattr("sys.stdin", io.StringIO('{"id": 9, "text": "a late row", "who": "a"}\n'))
    assert genai("index", "upsert", "notes", "-", "--json").json["documents"] == 5
    assert genai("index", "delete", "notes", "9", "--json").json["documents"] == 4
    (place / "gone.txt").write_text("2\n\n3\n")
    assert genai("index", "delete", "notes", "--from", "gone.txt", "--json").json["documents"] == 2
    absent = genai("index", "upsert", "notes", "nothing.jsonl")
    assert absent.code == 2 and "nothing.jsonl: the file cannot be read: No such file" in absent.err
    nothing = genai("index", "delete", "notes")
    assert nothing.code == 2 and "no key is named" in nothing.err


def test_bad_rows_are_all_named_and_nothing_is_written(place: Path, genai: Genai) -> None:
    write_job(place / "notes.yaml", name="notes", source={"direct": True, "metadata": {"year": "integer"}})
    assert genai("index", "notes.yaml").code == 0
    lines = [
        '{"id": 1, "text": "good"}',
        "no json",
        '{"text": "no key"}',
        '{"id": 2, "text": "x", "year": "soon"}',
        "[]",
    ]
    (place / "rows.jsonl").write_text("\n".join(lines))
    ended = genai("index", "upsert", "notes", "rows.jsonl")
    assert ended.code == 2
    assert [line.split(": ")[1] for line in ended.err.splitlines()] == [f"rows.jsonl:{n}" for n in (2, 3, 4, 5)]
    assert genai("index", "stats", "notes", "--json").json["documents"] == 0


def test_another_encoder_is_put_in_and_taken_back(place: Path, genai: Genai) -> None:
    make_word_model(place / "better", seed=1, width=128)
    queries = write_queries(place / "q.jsonl")
    assert genai("index", "rooms.yaml").code == 0
    swapped = genai("index", "swap", "rooms", "--embedding", "./better", "--evaluate", queries, "--tolerance", "1")
    assert swapped.code == 0, swapped.err
    assert "4 queries, mode dense:" in swapped.out
    assert "recall@10" in swapped.out
    assert "rooms now answers with ./better (g2), before: ./model" in swapped.out
    listed = genai("index", "versions", "rooms", "--json").json
    assert [(row["name"], row["state"]) for row in listed["generations"]] == [("g1", "retired"), ("g2", "live")]
    assert genai("index", "query", "rooms", "gutter", "--json").json["generation"] == "g2"
    refused = genai("index", "rooms.yaml")
    assert refused.code == 2
    assert "rooms.yaml:1:1" in refused.err and "made with another encoder" in refused.err
    merge_rows(place / "table", [{**ROWS[0], "text": NEW_TEXT}])
    assert genai("index", "rooms.yaml", "embedding.model=./better").code == 0
    back = genai("index", "rollback", "rooms", "--json")
    assert (back.code, back.json["embedding"]) == (0, "./model"), back.err
    assert genai("index", "query", "rooms", "chimney", "--json").json["results"][0]["text"] == NEW_TEXT
    assert yaml.safe_load((place / "indexes" / "rooms" / "config.yaml").read_text())["embedding"]["model"] == "./model"
    assert genai("index", "rooms.yaml").code == 0


def test_an_encoder_that_is_worse_is_not_put_in(place: Path, genai: Genai) -> None:
    from safetensors.numpy import load_file, save_file

    make_word_model(place / "worse")
    table = load_file(place / "worse" / "model.safetensors")["embeddings"]
    table[:, :] = table[0]
    save_file({"embeddings": table}, place / "worse" / "model.safetensors")
    queries = write_queries(place / "q.jsonl")
    assert genai("index", "rooms.yaml").code == 0
    refused = genai("index", "swap", "rooms", "--embedding", "./worse", "--evaluate", queries, "--drop-if-worse")
    assert refused.code == 3, refused.err
    assert "the new encoder is not good enough: " in refused.err
    assert genai("index", "query", "rooms", "gutter", "--json").json["generation"] == "g1"
    assert len(genai("index", "versions", "rooms", "--json").json["generations"]) == 1


def test_measures_of_each_way_to_search(place: Path, genai: Genai) -> None:
    queries = write_queries(place / "q.jsonl")
    assert genai("index", "rooms.yaml").code == 0
    text = genai("index", "query", "rooms", "--evaluate", queries).out
    assert text.splitlines()[0] == "4 queries on rooms (g1):"
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["MODE", "dense", "bm25", "hybrid", "95"]
    measured = genai("index", "query", "rooms", "--evaluate", queries, "--mode", "bm25", "--json").json
    (only,) = measured["modes"]
    assert (only["name"], measured["num_queries"]) == ("bm25", 4)
    assert 0 <= only["metrics"]["ndcg@10"] <= 1
    few = genai("index", "query", "rooms", "--evaluate", queries, "--tune")
    assert few.code == 1 and "too few to choose by" in few.err


def test_the_fusion_is_tuned_and_told(place: Path, genai: Genai) -> None:
    write_queries(place / "q.jsonl")
    (place / "many.jsonl").write_text((place / "q.jsonl").read_text() * 6)
    assert genai("index", "rooms.yaml").code == 0
    tuned = genai("index", "query", "rooms", "--evaluate", "many.jsonl", "--tune")
    assert tuned.code == 0, tuned.err
    assert tuned.out.splitlines()[-1].startswith("best: search.rrf_k=")
    assert [line.split()[0] for line in tuned.out.splitlines()[7:-1]] == ["RRF_K", "2", "5", "10", "20", "60"]
    values = genai("index", "query", "rooms", "--evaluate", "many.jsonl", "--tune", "--json").json["tuning"]
    assert (values["num_train"], values["num_test"], len(values["tried"])) == (12, 12, 105)


def test_lists_stats_and_versions(place: Path, genai: Genai) -> None:
    assert genai("index", "ls").out == "no indexes in indexes\n"
    assert genai("index", "rooms.yaml").code == 0
    header, row = genai("index", "ls").out.splitlines()
    assert header.split() == ["INDEX", "DOCUMENTS", "CHUNKS", "SOURCE", "ENCODER", "SYNCED"]
    assert row.split()[:5] == ["rooms", "5", "5", "delta:table", "./model"]
    told = lines_of(genai("index", "stats", "rooms").out)
    assert told["columns"] == "topic: keyword, year: integer"
    assert told["engine"].startswith("exact, ")
    stats = genai("index", "stats", "rooms", "--json").json
    assert (stats["documents"], stats["tombstones"], stats["holder"]) == (5, 0, None)
    assert stats["position"]["version"] == 0
    text = genai("index", "versions", "rooms").out
    assert "g1" in text and "sync" in text
    assert genai("index", "ls", "--indexes-dir", "elsewhere", "--json").json["indexes"] == []


def test_verify_finds_damage_and_rebuild_mends_it(place: Path, genai: Genai) -> None:
    assert genai("index", "rooms.yaml").code == 0
    sound = genai("index", "verify", "rooms", "--deep")
    assert (sound.code, sound.out.rstrip().endswith("all is well")) == (0, True), sound.out + sound.err
    for path in (place / "indexes" / "rooms" / "engine").rglob("*.npy"):
        path.write_bytes(b"damaged")
    broken = genai("index", "verify", "rooms")
    assert broken.code == 3
    assert "genai index rebuild rooms" in broken.out
    rebuilt = genai("index", "rebuild", "rooms", "--json")
    assert (rebuilt.code, rebuilt.json["did"]) == (0, "rebuild"), rebuilt.err
    assert rebuilt.json["account"]["embeddings_new"] == 0
    assert genai("index", "verify", "rooms").code == 0


def test_drop(place: Path, genai: Genai) -> None:
    assert genai("index", "rooms.yaml").code == 0
    would = genai("index", "drop", "rooms", "--dry-run")
    assert would.out.startswith("would remove indexes/rooms, ")
    assert genai("index", "drop", "rooms").out.startswith("removed indexes/rooms, ")
    assert not (place / "indexes" / "rooms").exists()
    assert genai("index", "drop", "rooms").code == 2
    assert genai("index", "rooms.yaml", "--json").json["run"] == "rooms-2", "the run of the dropped index stays"


def test_results_are_clipped_and_cannot_steer_the_terminal(place: Path, genai: Genai) -> None:
    rows = [{**ROWS[0], "text": "the screed \x1b[31mred " + "tiles " * 200, "topic": "a\x1b[2Jb"}]
    write_table(place / "table", rows)
    assert genai("index", "rooms.yaml").code == 0
    out = genai("index", "query", "rooms", "screed", "--k", "1").out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 5
    assert all(len(line) <= 100 for line in out.splitlines()[1:4])


def test_documents_that_cannot_be_read_are_told_and_left_out(place: Path, genai: Genai) -> None:
    (place / "docs" / "deep").mkdir(parents=True)
    (place / "docs" / "floors.md").write_text("# Floors\n\n## Screed\n\nthe screed is sixty millimetres thick\n")
    (place / "docs" / "deep" / "roofs.txt").write_text("roof tiles are laid from the eaves upwards\n")
    (place / "docs" / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    write_job(place / "docs.yaml", name="docs", source={"documents": "docs"})
    built = genai("index", "docs.yaml")
    assert built.code == 0, built.err
    told = lines_of(built.out)
    assert told["documents"] == "2 taken over, 0 removed, 1 could not be read"
    assert told["failed"].startswith("broken.pdf: ")
    out = genai("index", "query", "docs", "how thick is the screed", "--k", "1").out
    assert out.splitlines()[0].endswith("docs/floors.md:0-58  Floors")
    result = genai("index", "query", "docs", "screed", "--filter", "suffix = .md", "--json").json["results"][0]
    text = (place / "docs" / "floors.md").read_text()
    assert text[result["start"] : result["end"]] == result["text"]
    assert "broken.pdf" in (place / "runs" / "docs-1" / "report.html").read_text()
    (failure,) = genai("index", "stats", "docs", "--json").json["failures"]
    assert failure["key"] == "broken.pdf"
    assert genai("index", "docs.yaml", "--json").json["did"] == "nothing"


@pytest.mark.parametrize(
    ("engine", "package"),
    [
        ({"name": "qdrant_edge"}, "qdrant_edge"),
        ({"name": "lancedb"}, "lancedb"),
        ({"name": "qdrant", "url": "server"}, "qdrant_client"),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_every_engine_can_be_chosen(place: Path, genai: Genai, engine: dict[str, Any], package: str) -> None:
    pytest.importorskip(package)
    write_job(place / "rooms.yaml", engine=engine)
    assert genai("index", "rooms.yaml").code == 0
    merge_rows(place / "table", [{**ROWS[0], "text": NEW_TEXT}])
    delete_rows(place / "table", 5)
    changed = genai("index", "rooms.yaml")
    assert changed.code == 0, changed.err
    for mode in ("dense", "bm25", "hybrid"):
        ended = genai("index", "query", "rooms", "chimney sweep", "--mode", mode, "--filter", "year=2020", "--json")
        assert ended.code == 0, ended.err
        keys = [result["key"] for result in ended.json["results"]]
        assert keys[0] == "1" and set(keys) <= {"1", "3"}, mode
    verified = genai("index", "verify", "rooms")
    assert verified.code == 0, verified.out + verified.err
    assert genai("index", "rooms.yaml", "--json").json["did"] == "nothing"
    assert genai("index", "drop", "rooms").code == 0
    assert not (place / "indexes" / "rooms").exists()


def test_the_engine_can_be_exchanged(place: Path, genai: Genai) -> None:
    assert genai("index", "rooms.yaml").code == 0
    for engine in ("qdrant_edge", "lancedb", "exact"):
        pytest.importorskip(engine if engine != "exact" else "numpy")
        changed = genai("index", "rooms.yaml", f"engine={{name: {engine}}}", "--json")
        assert changed.code == 0, changed.err
        assert (changed.json["did"], changed.json["account"]["embeddings_new"]) == ("sync", 0)
        assert "damaged" not in changed.err
        assert genai("index", "query", "rooms", "gutter", "--json").json["results"][0]["key"] == "4"
    assert genai("index", "rooms.yaml", "--json").json["did"] == "nothing"
