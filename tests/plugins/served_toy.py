"""The toy index as a server has it open; and a process that puts rows into it, for tests with several of them:
`python -m served_toy FOLDER FIRST COUNT [KILL_AT]`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toy_index import ToyIndex, WordEncoder, document, make_config

from genai.config.dialect import dump
from genai.config.index import SyncConfig
from genai.index.engines.states import States
from genai.index.ledger import Ledger
from genai.jobs.serve_indexes import ServedIndex

BATCH = 4


def build_toy(folder: Path, texts: Mapping[str, str], **values: Any) -> Path:
    """An index `toy` below `folder`, as `genai index` leaves it: with its job file; gives its own folder."""
    config = make_config(folder, sync=SyncConfig(batch_size=BATCH), **values)
    toy = ToyIndex(config)
    toy.put(*(document(key, text) for key, text in texts.items()))
    toy.close()
    (toy.folder / "config.yaml").write_text(dump(asdict(config)), encoding="utf-8")
    return toy.folder


def serve_toy(folder: Path, **values: Any) -> ServedIndex:
    """The same, opened by a worker; it may be changed."""
    settings = {"encoder_of": WordEncoder, "reranker_of": no_reranker, "writable": True, **values}
    return ServedIndex("toy", index="toy", indexes_dir=folder, **settings)


def no_reranker(_: object) -> Any:
    """The toy index has none."""
    raise AssertionError


def rows(first: int, count: int) -> list[dict[str, Any]]:
    """With keys new-FIRST and so on."""
    return [{"id": f"new-{number}", "text": f"fresh row{number}"} for number in range(first, first + count)]


def kill_at(moment: int) -> list[int]:
    """Kill this process at the so-many-th of the moments that a change passes through; 0 only counts them."""
    passed = [0]

    def passes() -> None:
        passed[0] += 1
        if passed[0] == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    transaction, publish = Ledger.transaction, States.publish

    @contextmanager
    def watched(self: Ledger) -> Iterator[Any]:
        passes()
        with transaction(self) as connection:
            yield connection
            passes()
        passes()

    def publishing(self: States, *arguments: Any, **named: Any) -> str:
        passes()
        token = publish(self, *arguments, **named)
        passes()
        return token

    Ledger.transaction = watched  # type: ignore[method-assign,assignment]
    States.publish = publishing  # type: ignore[method-assign]
    return passed


def main() -> None:
    """Put the rows there, and say what was done."""
    folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    index = serve_toy(folder)
    print("ready", flush=True)
    sys.stdin.readline()
    moments = kill_at(int(sys.argv[4]) if len(sys.argv) > 4 else 0)
    change = asyncio.run(index.upsert(rows(first, count)))
    print(change.documents, moments[0], flush=True)
    index.close()


if __name__ == "__main__":
    main()
