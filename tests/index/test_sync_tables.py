"""An index that follows a real Delta table through whatever happens to tables: it equals the table after each sync."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError
from memory_source import FollowingIndex, four_words

from genai.config.index import IndexSourceConfig
from genai.errors import GenaiError
from genai.index.sources import open_source
from genai.index.taking import MassDeleteError

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string()), ("topic", pa.string())])
WORDS = [f"w{number}" for number in range(30)]


class Table:
    """A Delta table that random things happen to.

    Args:
        path: its folder.
        feeds: whether it has a change data feed.
        chosen: decides what happens.
    """

    def __init__(self, path: Path, *, feeds: bool, chosen: random.Random) -> None:
        self._path = str(path)
        self._chosen = chosen
        self._configuration = {"delta.enableChangeDataFeed": "true"} if feeds else {}
        self._next = 0
        self._write([self._row() for _ in range(12)], mode="overwrite")

    def rows(self) -> dict[str, str]:
        """Key -> text."""
        found = DeltaTable(self._path).to_pyarrow_table().to_pylist()
        return {str(row["id"]): row["text"] for row in found}

    def happen(self) -> str:
        """Do something, and say what."""
        actions: list[Callable[[], object]] = [
            self.insert, self.insert, self.update, self.update, self.delete, self.merge, self.optimize,
            self.overwrite_with_the_same, self.restore, self.vacuum,
        ]  # fmt: skip
        action = self._chosen.choice(actions)
        action()
        return action.__name__

    def insert(self) -> None:
        self._write([self._row() for _ in range(self._chosen.randrange(1, 6))], mode="append")

    def update(self) -> None:
        number = self._chosen.randrange(max(self._next, 1))
        DeltaTable(self._path).update(predicate=f"id % 5 = {number % 5}", new_values={"text": self._text()})

    def delete(self) -> None:
        DeltaTable(self._path).delete(f"id = {self._chosen.randrange(max(self._next, 1))}")

    def merge(self) -> None:
        """Some of its rows as they are, one changed, one new."""
        table = DeltaTable(self._path)
        rows = table.to_pyarrow_table().to_pylist()
        some = self._chosen.sample(rows, min(3, len(rows)))
        if some:
            some[0]["text"] = self._text()
        source = pa.Table.from_pylist([*some, self._row()], schema=SCHEMA)
        merge = table.merge(source, "t.id = s.id", source_alias="s", target_alias="t")
        merge.when_matched_update_all().when_not_matched_insert_all().execute()

    def optimize(self) -> None:
        DeltaTable(self._path).optimize.compact()

    def overwrite_with_the_same(self) -> None:
        self._write(DeltaTable(self._path).to_pyarrow_table().to_pylist(), mode="overwrite")

    def restore(self) -> None:
        table = DeltaTable(self._path)
        if table.version() > 0:
            with suppress(DeltaError, FileNotFoundError):  # its files were vacuumed
                table.restore(max(0, table.version() - self._chosen.randrange(1, 3)))

    def vacuum(self) -> None:
        DeltaTable(self._path).vacuum(0, enforce_retention_duration=False, dry_run=False)

    def _write(self, rows: list[dict[str, object]], *, mode: str) -> None:
        data = pa.Table.from_pylist(rows, schema=SCHEMA)
        write_deltalake(self._path, data, mode=mode, configuration=self._configuration or None)  # type: ignore[call-overload]

    def _row(self) -> dict[str, object]:
        self._next += 1
        return {"id": self._next - 1, "text": self._text(), "topic": self._chosen.choice(["a", "b", None])}

    def _text(self) -> str:
        return " ".join(self._chosen.choice(WORDS) for _ in range(self._chosen.randrange(1, 12)))


@pytest.mark.parametrize("feeds", [True, False], ids=["feed", "no feed"])
@pytest.mark.parametrize("seed", [1, 2])
def test_random_operations(tmp_path: Path, feeds: bool, seed: int) -> None:
    table = Table(tmp_path / "table", feeds=feeds, chosen=random.Random(f"{feeds}{seed}"))
    config = IndexSourceConfig(
        table=f"delta:{tmp_path / 'table'}", primary_key="id", text="text", metadata={"topic": "keyword"}
    )
    index = FollowingIndex(tmp_path / "indexes", source=None)
    index.change_config(source=config)
    history: list[str] = []
    for _ in range(12):
        history += [table.happen() for _ in range(table._chosen.randrange(0, 4))]
        source = open_source(config)
        assert source is not None
        index.source = source  # type: ignore[assignment]
        try:
            index.sync()
        except MassDeleteError:
            index.sync(allow_mass_delete=True)
        wanted = {key: list(four_words(text)) for key, text in sorted(table.rows().items())}
        assert index.texts() == wanted, history


def test_a_table_that_vanishes_empties_nothing(tmp_path: Path) -> None:
    Table(tmp_path / "table", feeds=True, chosen=random.Random(0))
    config = IndexSourceConfig(table=f"delta:{tmp_path / 'table'}", primary_key="id", text="text")
    index = FollowingIndex(tmp_path / "indexes")
    index.change_config(source=config)
    index.source = open_source(config)  # type: ignore[assignment]
    index.sync()
    before = index.texts()
    (tmp_path / "table").rename(tmp_path / "elsewhere")
    index.source = open_source(config)  # type: ignore[assignment]
    with pytest.raises(GenaiError):
        index.sync()
    assert index.texts() == before
