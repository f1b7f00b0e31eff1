"""Writes the questions of the FAQ, each with the answer that it should find, as `evaluation.queries` reads them.

python questions.py questions.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from genai.data import gallery


def main(out: Path) -> None:
    """Write one JSON object a line."""
    rows = [json.loads(line) for line in gallery.pull("construction-faq-en").read_text(encoding="utf-8").splitlines()]
    queries = [json.dumps({"query": row["q"], "relevant": [row["id"]]}, ensure_ascii=False) for row in rows]
    out.write_text("".join(f"{line}\n" for line in queries), encoding="utf-8")
    print(f"{out}: {len(queries)} questions")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
