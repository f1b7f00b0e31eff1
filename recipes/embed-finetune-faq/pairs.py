"""Makes pairs of a query and what answers it out of the docstrings in Python wheels: the first sentence is the query,
the rest of the docstring the document.

    python pairs.py wheels.txt FOLDER pairs.jsonl

FOLDER holds the wheels that wheels.txt pins by their SHA-256; another file stops this. They are read with zipfile and
ast: nothing is installed, and nothing in them runs. The same wheels always give the same file. `file` says where a
docstring stands, so that the split can keep those of one file together.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

QUERY_CHARACTERS = range(20, 201)
MIN_QUERY_WORDS = 4
MIN_DOCUMENT_CHARACTERS = 80
MAX_DOCUMENT_CHARACTERS = 600
SKIPPED = {"tests", "test", "testing", "_vendor", "vendor", "conftest.py"}
"""Folders and files that are passed over."""
_PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>\S+) +--hash=sha256:(?P<sha256>[0-9a-f]{64})$", re.M)
_SENTENCE = re.compile(r"(?P<first>.+?[.!?])(?:\s+(?=[A-Z`*\"'(\[])|$)", re.S)

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def main() -> None:
    """Write the pairs and say how many there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pins", type=Path, help="NAME==VERSION --hash=sha256:... a line, as pip reads it")
    parser.add_argument("folder", type=Path, help="with the wheels")
    parser.add_argument("out", type=Path, help="JSON lines")
    parser.add_argument("--max-pairs", type=int, default=1 << 40, help="stop after about so many")
    arguments = parser.parse_args()
    rows, files = 0, set()
    part = arguments.out.with_name(f"{arguments.out.name}.part")
    with open(part, "w", encoding="utf-8") as stream:
        for row in pairs(wheels(arguments.pins, arguments.folder)):
            if rows >= arguments.max_pairs and row["file"] not in files:
                break
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            rows += 1
            files.add(row["file"])
    part.replace(arguments.out)  # the file is there when it is whole
    print(f"{arguments.out}: {rows:,} pairs of {len(files):,} files")


def wheels(pins: Path, folder: Path) -> list[Path]:
    """The pinned wheels, each compared with its SHA-256."""
    pinned = {match["sha256"]: match["name"] for match in _PIN.finditer(pins.read_text(encoding="utf-8"))}
    found = {hashlib.sha256(wheel.read_bytes()).hexdigest(): wheel for wheel in sorted(folder.glob("*.whl"))}
    if missing := [name for sha256, name in pinned.items() if sha256 not in found]:
        sys.exit(f"{folder} lacks what {pins} pins: {', '.join(missing)}; remove {folder} and run again")
    return [found[sha256] for sha256 in pinned]


def pairs(wheels: list[Path]) -> Iterator[dict[str, str]]:
    """All pairs, file by file, in an order that is the same everywhere and takes something of each wheel early.

    A query or a document that was there before is passed over, however it is spaced and written.
    """
    seen: set[str] = set()
    with ExitStack() as stack:
        archives = [stack.enter_context(zipfile.ZipFile(wheel)) for wheel in wheels]
        members = [(archive, name) for archive in archives for name in sources(archive)]
        for archive, name in sorted(members, key=lambda member: hashlib.sha256(member[1].encode()).digest()):
            for query, document in docstring_pairs(archive.read(name)):
                keys = {normal(query), normal(document)}
                if seen.isdisjoint(keys):
                    yield {"query": query, "positive": document, "file": name}
                seen |= keys


def sources(wheel: zipfile.ZipFile) -> list[str]:
    """The Python files in a wheel."""
    names = [PurePosixPath(name) for name in wheel.namelist()]
    return [str(name) for name in names if name.suffix == ".py" and SKIPPED.isdisjoint(name.parts)]


def docstring_pairs(source: bytes) -> Iterator[tuple[str, str]]:
    """First sentence and rest of each docstring of a file, where both say enough."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        docstring = ast.get_docstring(node) if isinstance(node, Documented) else None
        pair = halves(docstring) if docstring else None
        if pair is not None:
            yield pair


def halves(docstring: str) -> tuple[str, str] | None:
    """A docstring's first sentence, and what follows it up to a limit; None where one of them is too short."""
    # A docstring may hold half of a surrogate pair, which no file can.
    text = docstring.encode("utf-8", "ignore").decode()
    opening, _, _ = text.partition("\n\n")
    sentence = _SENTENCE.match(opening)
    end = sentence.end("first") if sentence else len(opening)
    query, document = " ".join(text[:end].split()), text[end:].strip()
    if len(document) > MAX_DOCUMENT_CHARACTERS:
        document = document[:MAX_DOCUMENT_CHARACTERS].rpartition(" ")[0].rstrip()
    too_short = len(query.split()) < MIN_QUERY_WORDS or len(document) < MIN_DOCUMENT_CHARACTERS
    return None if too_short or len(query) not in QUERY_CHARACTERS else (query, document)


def normal(text: str) -> str:
    """A text without what makes no difference to its words."""
    return " ".join(re.findall(r"\w+", text.lower()))


if __name__ == "__main__":
    main()
