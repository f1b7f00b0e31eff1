"""What changed between two versions: whatever was done to a real table, the changes make the one from the other."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from genai.errors import DataError
from genai.tables.delta import DeltaTable, open_delta
from genai.tables.delta_feed import FeedError, RowChange, read_changes

deltalake = pytest.importorskip("deltalake")
pa = pytest.importorskip("pyarrow")
delta_tables = pytest.importorskip("delta_tables")

FEED = {"delta.enableChangeDataFeed": "true"}
Write = Callable[..., None]


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """Where a table will be."""
    return str(tmp_path / "table")


def rows(**texts: str | None) -> Any:
    """Rows with these keys."""
    columns = {"id": pa.array(list(texts), pa.string()), "text": pa.array(list(texts.values()), pa.string())}
    return pa.table(columns)


def begin(uri: str, *, feed: bool = True, **texts: str) -> None:
    deltalake.write_deltalake(uri, rows(**texts), configuration=FEED if feed else None)


def append(uri: str, **texts: str) -> None:
    deltalake.write_deltalake(uri, rows(**texts), mode="append")


def overwrite(uri: str, **texts: str) -> None:
    deltalake.write_deltalake(uri, rows(**texts), mode="overwrite")


def delete(uri: str, key: str) -> None:
    deltalake.DeltaTable(uri).delete(f"id = '{key}'")


def merge(uri: str, **texts: str) -> None:
    merger = deltalake.DeltaTable(uri).merge(rows(**texts), "t.id = s.id", source_alias="s", target_alias="t")
    merger.when_matched_update_all().when_not_matched_insert_all().execute()


def vacuum(uri: str, *, full: bool = False) -> None:
    deltalake.DeltaTable(uri).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=full)


def set_feed(uri: str, on: bool) -> None:
    deltalake.DeltaTable(uri).alter.set_table_properties({"delta.enableChangeDataFeed": str(on).lower()})


def changes(uri: str, since: int, until: int | None = None) -> list[RowChange]:
    return list(read_changes(open_delta(uri, until), since, key="id", columns=("id", "text")).rows)


def short(found: list[RowChange]) -> dict[str, str | None]:
    """Key -> text, or None where the row is gone; each key comes once."""
    told = {change.key: change.values["text"] if change.kind == "upsert" else None for change in found}
    assert len(told) == len(found)
    return told


def snapshot(uri: str, version: int) -> dict[str, str]:
    return {row["id"]: row["text"] for row in open_delta(uri, version).all_rows()}


def assert_leads(uri: str, since: int, until: int) -> None:
    """The changes turn the one version into the other."""
    state = snapshot(uri, since)
    for key, text in short(changes(uri, since, until)).items():
        if text is None:
            state.pop(key, None)
        else:
            state[key] = text
    assert state == snapshot(uri, until)


def test_insert_update_delete(uri: str) -> None:
    begin(uri, a="1", b="2", c="3")
    append(uri, d="4")
    delete(uri, "a")
    deltalake.DeltaTable(uri).update(updates={"text": "'two'"}, predicate="id = 'b'")
    found = changes(uri, 0)
    assert short(found) == {"a": None, "b": "two", "d": "4"}
    assert [change.kind for change in found] == ["upsert", "delete", "upsert"]  # d, a, b: as they were changed last
    assert found[0] == RowChange(key="d", kind="upsert", values={"id": "d", "text": "4"})
    assert found[1] == RowChange(key="a", kind="delete", values={"id": "a"})
    assert short(changes(uri, 1)) == {"a": None, "b": "two"}
    assert short(changes(uri, 0, 1)) == {"d": "4"}


def test_nothing_happened(uri: str) -> None:
    begin(uri, a="1")
    assert changes(uri, 0) == []
    append(uri, b="2")
    deltalake.DeltaTable(uri).optimize.compact()  # a commit without a change
    assert changes(uri, 1) == []


@pytest.mark.parametrize("reverse", [False, True])
def test_rows_come_in_no_order_but_the_last_word_counts(
    reverse: bool, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(uri, a="0")
    for number in range(1, 9):
        if number % 3 == 0:
            delete(uri, "a")
        else:
            merge(uri, a=str(number))
    feed = DeltaTable.feed

    def ordered(table: DeltaTable, since: int, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        rows = sorted(feed(table, since, columns), key=lambda row: (row["_commit_version"], row["_change_type"]))
        return reversed(rows) if reverse else iter(rows)

    monkeypatch.setattr(DeltaTable, "feed", ordered)
    for since in range(8):
        for until in range(since + 1, 9):
            assert_leads(uri, since, until)


def test_insert_before_delete_within_a_version(uri: str) -> None:
    begin(uri, feed=False, a="1", b="2")
    overwrite(uri, a="1", c="3")  # both versions of row a, in one commit
    feed = list(open_delta(uri).feed(0, ["id"]))
    assert [row["_change_type"] for row in feed if row["id"] == "a"].count("insert") == 1
    assert short(changes(uri, 0)) == {"a": "1", "b": None, "c": "3"}


def test_a_key_that_changes_leaves_the_old_one(uri: str) -> None:
    begin(uri, a="1", b="2")
    deltalake.DeltaTable(uri).update(updates={"id": "'z'"}, predicate="id = 'a'")
    assert short(changes(uri, 0)) == {"a": None, "z": "1"}


def test_rows_that_a_merge_leaves_as_they_are(uri: str) -> None:
    begin(uri, a="1", b="2")
    merge(uri, a="1", c="3")
    assert short(changes(uri, 0)) == {"a": "1", "c": "3"}  # a is told again: a sync compares what it says


def test_start_past_the_newest(uri: str) -> None:
    begin(uri, a="1")
    with pytest.raises(FeedError, match="version 0 is before version 7"):
        changes(uri, 7)
    assert changes(uri, 0) == []


def test_after_vacuum(uri: str) -> None:
    begin(uri, a="1", b="2")
    merge(uri, a="one")
    append(uri, c="3")
    vacuum(uri, full=True)
    with pytest.raises(FeedError, match="cannot be read"):
        changes(uri, 0)
    assert short(changes(uri, 1)) == {"c": "3"}


def test_after_vacuum_of_data_files(uri: str) -> None:
    begin(uri, a="1")
    overwrite(uri, b="2")
    vacuum(uri)
    with pytest.raises(FeedError, match="cannot be read"):
        changes(uri, 0)


def test_a_feed_that_was_never_enabled(uri: str) -> None:
    begin(uri, feed=False, a="1", b="2", c="3")
    delete(uri, "a")
    merge(uri, b="two", d="4")
    for since in range(2):
        assert_leads(uri, since, 2)  # by the files that came and went
    vacuum(uri)
    with pytest.raises(FeedError, match="cannot be read"):
        changes(uri, 0)


def test_a_feed_that_was_enabled_late(uri: str) -> None:
    begin(uri, feed=False, a="1", b="2")
    delete(uri, "a")
    set_feed(uri, True)
    merge(uri, b="two")
    for since in range(3):
        assert_leads(uri, since, 3)


def test_a_feed_that_was_switched_off_meanwhile(uri: str) -> None:
    begin(uri, a="1", b="2")
    set_feed(uri, False)
    delete(uri, "a")
    set_feed(uri, True)
    append(uri, c="3")
    with pytest.raises(FeedError, match="Change Data not enabled for version"):
        changes(uri, 0)
    assert short(changes(uri, 3)) == {"c": "3"}


def test_after_the_log_was_cleaned(uri: str) -> None:
    begin(uri, a="1")
    deltalake.DeltaTable(uri).alter.set_table_properties({"delta.logRetentionDuration": "interval 0 seconds"})
    for number in range(4):
        append(uri, **{f"k{number}": "x"})
    deltalake.DeltaTable(uri).create_checkpoint()
    for path in Path(uri, "_delta_log").glob("*.json"):
        os.utime(path, (1, 1))
    deltalake.DeltaTable(uri).cleanup_metadata()
    assert not Path(uri, "_delta_log", "00000000000000000002.json").exists()
    with pytest.raises(FeedError, match="Invalid table version"):
        changes(uri, 1)
    append(uri, last="x")
    assert short(changes(uri, 5)) == {"last": "x"}


def test_restore_to_an_older_version(uri: str) -> None:
    begin(uri, a="1", b="2")
    delete(uri, "a")
    merge(uri, b="two")
    append(uri, z="26")
    deltalake.DeltaTable(uri).restore(1)
    for since in range(4):
        assert_leads(uri, since, 4)
    assert short(changes(uri, 3)) == {"b": "2", "z": None}


def test_a_new_column(uri: str) -> None:
    begin(uri, a="1")
    append(uri, b="2")
    more = rows(c="3").append_column("topic", pa.array(["new"]))
    deltalake.write_deltalake(uri, more, mode="append", schema_mode="merge")
    found = read_changes(open_delta(uri), 0, key="id", columns=("text", "topic"))
    assert found.total == 2
    assert [change.values for change in found.rows] == [
        {"id": "b", "text": "2", "topic": None},
        {"id": "c", "text": "3", "topic": "new"},
    ]


def test_rows_that_a_vector_deleted_are_not_believed(uri: str) -> None:
    """What the feed of deltalake 1.6 says when a file with a vector is replaced is wrong: see the last lines."""
    begin(uri, a="1", b="2", c="3")
    delta_tables.delete_by_vector(uri, {0: [1]})
    append(uri, b="new")
    delta_tables.replace_file(uri, rows(a="1", c="three"))
    with pytest.raises(FeedError, match="deletion vectors"):
        changes(uri, 0)
    with pytest.raises(FeedError, match="deletion vectors"):
        changes(uri, 2)
    append(uri, d="4")
    assert short(changes(uri, 3)) == {"d": "4"}
    wrong = open_delta(uri, 3).feed(2, ["id"])
    assert "b" in [row["id"] for row in wrong if row["_change_type"] == "delete"]
    assert snapshot(uri, 3)["b"] == "new"


def test_renamed_columns_have_no_feed(uri: str) -> None:
    delta_tables.write_mapped(uri, rows(a="1"))
    delta_tables.append_mapped(uri, rows(b="2"))
    with pytest.raises(FeedError, match="renamed columns"):
        changes(uri, 0)


def test_keys_that_are_no_keys(uri: str) -> None:
    begin(uri, a="1")
    append(uri, b="2")
    append(uri, b="3")
    with pytest.raises(DataError, match=r"1 values of 'id' were added more than once, e\.g\. 'b'"):
        changes(uri, 0)
    deltalake.write_deltalake(
        uri, pa.table({"id": pa.array([None, None], pa.string()), "text": ["x", "y"]}), mode="append"
    )
    with pytest.raises(DataError, match="2 rows were added without 'id'"):
        changes(uri, 2)
    deltalake.DeltaTable(uri).delete("id is null")
    assert changes(uri, 2) == []


def test_keys_that_are_new(uri: str) -> None:
    begin(uri, a="1", b="2")
    append(uri, c="3")
    merge(uri, a="one", d="4")
    delete(uri, "c")
    assert read_changes(open_delta(uri), 0, key="id", columns=("text",)).added == ["d"]


_KEYS = st.sampled_from("abcdef")
_TEXTS = st.dictionaries(_KEYS, st.sampled_from(["x", "y", "z"]), min_size=1, max_size=4)
_STEPS = st.one_of(
    st.tuples(st.just("merge"), _TEXTS),
    st.tuples(st.just("overwrite"), _TEXTS),
    st.tuples(st.just("delete"), _KEYS),
    st.tuples(st.just("restore"), st.integers(0, 5)),
    st.tuples(st.just("optimize"), st.none()),
    st.tuples(st.just("set_feed"), st.booleans()),
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(feed=st.booleans(), steps=st.lists(_STEPS, min_size=2, max_size=6))
def test_any_history(feed: bool, steps: list[tuple[str, Any]], uri: str) -> None:
    shutil.rmtree(uri, ignore_errors=True)
    begin(uri, feed=feed, a="x", b="y")
    for name, value in steps:
        if name == "merge":
            merge(uri, **value)
        elif name == "overwrite":
            overwrite(uri, **value)
        elif name == "delete":
            delete(uri, value)
        elif name == "restore":
            if value < deltalake.DeltaTable(uri).version():
                deltalake.DeltaTable(uri).restore(value)
        elif name == "optimize":
            deltalake.DeltaTable(uri).optimize.compact()
        else:
            set_feed(uri, value)
    newest = deltalake.DeltaTable(uri).version()
    for since in range(newest):
        try:
            assert_leads(uri, since, newest)
        except FeedError:
            event("no feed")
        else:
            event("feed")
