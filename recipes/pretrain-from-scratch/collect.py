"""Collect real text from this machine: docstrings of the Python packages that are installed here, and Debian's HTML
pages about Python where those are installed (`apt-get install python3-doc`).

    python collect.py text --max-bytes 6000000

In `text/docstrings.jsonl` a module is a document: the names of its classes and functions, each with its docstring,
which is taken once however often it stands somewhere. The files are parsed, never run. `text/html/` gets copies of
pages.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import shutil
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

SHORTEST = 40
SKIPPED = {"tests", "test", "testing", "__pycache__", "site-packages", "dist-packages", "idlelib", "lib2to3"}
PAGES = "/usr/share/doc"
SHARE_OF_PAGES = 1 / 3
TAGS = 3
"""About how many bytes of HTML hold one byte of text."""


def main() -> None:
    """Write the documents and say how many there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder")
    parser.add_argument("--max-bytes", type=int, default=1 << 40, help="stop after about so much text")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    num_pages, page_bytes = copy_pages(arguments.out / "html", int(SHARE_OF_PAGES * arguments.max_bytes))
    num_modules, module_bytes = write_docstrings(arguments.out / "docstrings.jsonl", arguments.max_bytes - page_bytes)
    print(
        f"{num_modules:,} modules with {module_bytes / 1e6:.1f} MB of docstrings, {num_pages:,} pages of Debian's docs"
    )


def copy_pages(out: Path, max_bytes: int) -> tuple[int, int]:
    """Copy HTML pages with about `max_bytes` of text; how many, and how much text they hold, about."""
    pages = [page for page in sorted(Path(PAGES).glob("python3*/html/**/*.html")) if page.is_file()]
    num_pages = num_bytes = 0
    for page in sorted(pages, key=lambda page: hashlib.sha256(str(page).encode()).digest()):
        if num_bytes >= max_bytes:
            break
        out.mkdir(exist_ok=True)
        shutil.copy(page, out / f"{num_pages:05d}-{page.name}")
        num_pages += 1
        num_bytes += page.stat().st_size // TAGS
    return num_pages, num_bytes


def write_docstrings(out: Path, max_bytes: int) -> tuple[int, int]:
    """Write one document a module; how many, and how many bytes of text."""
    seen: set[bytes] = set()
    num_modules = num_bytes = 0
    with open(out, "w", encoding="utf-8") as stream:
        for name, text in documents(seen):
            stream.write(json.dumps({"text": text, "module": name}, ensure_ascii=False) + "\n")
            num_modules += 1
            num_bytes += len(text.encode())
            if num_bytes >= max_bytes:
                break
    return num_modules, num_bytes


def documents(seen: set[bytes]) -> Iterator[tuple[str, str]]:
    """Name and text of every module of the standard library and of the installed packages that says something.

    The order is the same everywhere and takes something of every package early.
    """
    found: dict[str, Path] = {}
    for root in dict.fromkeys(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib")):
        for file in Path(root).rglob("*.py"):
            parts = file.relative_to(root).with_suffix("").parts
            if SKIPPED.isdisjoint(parts):
                found[".".join(parts)] = file
    for name in sorted(found, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if text := text_of(found[name], seen):
            yield name, text


def text_of(file: Path, seen: set[bytes]) -> str:
    """All docstrings of a file that were not seen before, each under the name it belongs to."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return ""
    parts = []
    for heading, node in named(tree, ""):
        docstring = ast.get_docstring(node)
        if docstring is None or len(docstring) < SHORTEST:
            continue
        digest = hashlib.sha256(docstring.encode("utf-8", "replace")).digest()
        if digest not in seen:
            seen.add(digest)
            parts.append(f"{heading}\n\n{docstring}" if heading else docstring)
    # A docstring may hold half of a surrogate pair, which no file can.
    return "\n\n\n".join(parts).encode("utf-8", "ignore").decode()


Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def named(node: ast.AST, prefix: str) -> Iterator[tuple[str, Documented]]:
    """The module, its classes and functions, each with its heading."""
    if isinstance(node, ast.Module):
        yield "", node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield f"class {prefix}{child.name}", child
            yield from named(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{child.name}({ast.unparse(child.args)})", child


if __name__ == "__main__":
    main()
