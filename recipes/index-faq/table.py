"""Makes a Delta table of questions and answers, and later changes three of its rows.

python table.py make FOLDER      FOLDER/faq is the table, FOLDER/queries.jsonl questions with what they should find
python table.py change FOLDER    three answers are written anew
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import deltalake
import pyarrow as pa

from genai.data import gallery

NEW_ANSWERS = {
    "bygglov-001": "A bygglov is a building permit. Since this year, a permit is also needed to move a bird box.",
    "bygglov-002": "A building permit takes 10 weeks. Moving a bird box takes 2.",
    "bygglov-003": "The fee depends on the municipality. For moving a bird box it is 12 SEK.",
}


def read_faq() -> list[dict[str, str]]:
    """The questions and answers of the gallery."""
    rows = (json.loads(line) for line in gallery.pull("construction-faq-en").read_text(encoding="utf-8").splitlines())
    return [{"id": row["id"], "category": row["category"], "question": row["q"], "answer": row["a"]} for row in rows]


def make(folder: Path) -> None:
    """Write the table anew, and the questions beside it."""
    rows = read_faq()
    deltalake.write_deltalake(
        folder / "faq",
        pa.Table.from_pylist(rows),
        mode="overwrite",
        configuration={"delta.enableChangeDataFeed": "true"},  # a sync then reads the changes and not the whole table
    )
    queries = [json.dumps({"query": row["question"], "relevant": [row["id"]]}, ensure_ascii=False) for row in rows]
    (folder / "queries.jsonl").write_text("".join(f"{line}\n" for line in queries), encoding="utf-8")
    print(f"{folder / 'faq'}: {len(rows)} rows, version {deltalake.DeltaTable(folder / 'faq').version()}")


def change(folder: Path) -> None:
    """Merge three rows with new answers into the table."""
    table = deltalake.DeltaTable(folder / "faq")
    rows = [{**row, "answer": NEW_ANSWERS[row["id"]]} for row in read_faq() if row["id"] in NEW_ANSWERS]
    merging = table.merge(
        pa.Table.from_pylist(rows), predicate="old.id = new.id", source_alias="new", target_alias="old"
    )
    merging.when_matched_update_all().execute()
    print(f"{folder / 'faq'}: {len(rows)} rows changed, version {deltalake.DeltaTable(folder / 'faq').version()}")


if __name__ == "__main__":
    {"make": make, "change": change}[sys.argv[1]](Path(sys.argv[2]))
