"""Write what is generated in docs/: the help of every verb, and the table of llm-foundry's keys.

`--check` only says whether that is up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from genai.config.foundry_table import render_foundry
from genai_cli.main import command

DOCS = Path(__file__).resolve().parents[1] / "docs"


def render_cli() -> str:
    """docs/cli.md: what `--help` prints, verb by verb."""
    head = "# The command line\n\nWritten by `make docs` from `genai VERB --help`.\n"
    root = click.Context(command, info_name="genai", terminal_width=100)
    sections = [f"\n## {path}\n\n```text\n{text}\n```\n" for path, text in _helps(command, root)]
    return head + "".join(sections)


def _helps(item: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    yield context.command_path, "\n".join(line.rstrip() for line in item.get_help(context).splitlines())
    if isinstance(item, click.Group):
        for name in item.list_commands(context):
            child = item.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _helps(child, click.Context(child, parent=context, info_name=name, terminal_width=100))


def main() -> int:
    """Write the documents, or with --check compare them; 1 when one differs."""
    documents = {DOCS / "cli.md": render_cli(), DOCS / "llm-foundry.md": render_foundry()}
    old = [path for path, text in documents.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in old:
            print(f"{path.name} is out of date: run `make docs`", file=sys.stderr)
        return 1 if old else 0
    DOCS.mkdir(exist_ok=True)
    for path in old:
        path.write_text(documents[path], encoding="utf-8")
        print(f"wrote {path.relative_to(DOCS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
