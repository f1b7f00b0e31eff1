"""A training file of llm-foundry's written anew as one of ours: `genai config from-llmfoundry FILE`.

Nothing is dropped in silence: a key that was translated, has no effect or is not supported stays as a comment, in its
place, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from genai.config.dialect import dump, read
from genai.config.foundry import settle
from genai.config.foundry_answers import Settled
from genai.config.inherit import read_with_bases
from genai.config.schemas import guess_job
from genai.config.tree import Key, Node, Origin, dotted, graft, plain
from genai.errors import ConfigError

_INDENT = "  "


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A job file of ours, and what became of the keys that are not ours."""

    job: str
    """The job it is for."""
    text: str
    """The YAML."""
    settled: tuple[Settled, ...]
    """Each key that was answered."""

    def keys(self, does: str) -> list[str]:
        """The keys with that answer: `translated`, `no effect` or `refused`."""
        return [dotted(each.key) for each in self.settled if each.answer.does == does]


def convert_foundry(path: Path, job: str | None = None) -> Conversion:
    """Write a file of llm-foundry's as ours.

    Args:
        path: of the file.
        job: which job it is for; by default its loader tells.

    Raises:
        ConfigError: the file cannot be read, or is no YAML.
    """
    tree, problems = read_with_bases(path)
    if problems:
        raise ConfigError(problems)
    job = job or guess_job(path, tree)
    _, settled = settle(tree, job)
    head = f"# Written from {path.name} by: genai config from-llmfoundry. The job: genai {job}\n\n"
    by_key = {each.key: each for each in settled}
    text = head + "\n".join(_section(tree, (), by_key)) + "\n"
    _read_again(text)
    return Conversion(job=job, text=text, settled=tuple(settled))


def _section(tree: Node, key: Key, settled: dict[Key, Settled]) -> Iterator[str]:
    indent = _INDENT * len(key)
    for name, node in tree.children():
        path = (*key, name)
        if path in settled:
            yield from (f"{indent}{line}" for line in _answered(settled[path]))
        elif isinstance(node.value, dict) and node.value:
            yield f"{indent}{_name(name)}:"
            lines = list(_section(node, path, settled))
            if all(line.lstrip().startswith("#") for line in lines):
                # A section of which nothing is left would be null.
                lines.append(f"{indent}{_INDENT}{{}}")
            yield from lines
        else:
            yield from (f"{indent}{line}" for line in _written(name, node))


def _answered(settled: Settled) -> Iterator[str]:
    words = "not supported" if settled.answer.does == "refused" else settled.answer.does
    fix = f" ({settled.answer.fix})" if settled.answer.fix else ""
    *first, last = _written(settled.key[-1], settled.node)
    yield from (f"# {line}" for line in first)
    yield f"# {last}    <- {words}: {settled.answer.why}{fix}"
    for name, value in (settled.replacement or {}).items():
        yield from _written(name, graft(value, settled.node.origin))


def _written(name: str | int, node: Node) -> list[str]:
    return dump({name: plain(node)}).rstrip("\n").split("\n")


def _name(name: str | int) -> str:
    return dump({name: 0}).partition(":")[0]


def _read_again(text: str) -> None:
    """Our own output must be YAML again."""
    tree, problems = read(text, Origin("file", "the converted file"))
    assert tree is not None and not problems
