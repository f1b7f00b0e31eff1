"""`genai data convert`: raw text anywhere to shards of tokens or rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from genai.config.finetune import RowFormat
from genai.data.convert.inputs import KNOWN_SUFFIXES, HubOptions, Inputs, find_inputs
from genai.data.convert.lineage import make_plan as plan_of
from genai.data.convert.parts import Work
from genai.data.convert.reading import Reader, fit_to_records
from genai.data.convert.run import Converted, convert, find_converted
from genai.data.convert.settings import ConvertSettings, Target, TokenSettings, parse_shares
from genai.data.mds.compression import parse_compression
from genai.data.sources import find_files
from genai.data.tables import split_table_reference
from genai.errors import ConfigError, Problem, UsageError
from genai.log import get_logger
from genai.models.tokenizers import load_fast_tokenizer, tokenizer_problem
from genai.storage import is_remote, open_store
from genai.storage.local import path_of
from genai.tables.delta import open_delta

_TOKENS_OF_UINT16 = 1 << 16
_BYTES_A_TOKEN = 4
"""Of English text, for the plan's estimate."""
_SCHEMES = ("hf:", "delta:", "gallery:")
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ConvertRequest:
    """What the command line asks for."""

    sources: tuple[str, ...]
    """References, at least one."""
    out: str
    """Folder or bucket."""
    target: Target = "tokens"
    """`tokens` or `rows`."""
    tokenizer: str | None = None
    """Reference of the tokenizer, for `tokens`."""
    seq_len: int | None = None
    """Tokens a row, for `tokens`."""
    end_of_text: str | None = None
    """The token after each document; None: the tokenizer's own."""
    splits: tuple[str, ...] = ()
    """`NAME=SHARE` each."""
    text: str | None = None
    """The column with the text."""
    format: RowFormat = "auto"
    """Of the records, for `rows`."""
    columns: tuple[str, ...] = ()
    """`EXPECTED=NAME` each, for `rows`."""
    seed: int = 17
    """Decides who goes to which split."""
    compression: str | None = None
    """Of the shards."""
    shard_bytes: int = 1 << 26
    """Largest shard."""
    part_bytes: int = 1 << 26
    """Input of a piece of work."""
    workers: int | None = None
    """Processes; None: one for each CPU that may be used."""
    max_bad: float = 0.01
    """Share (below 1) or number of documents that may be unusable."""
    hub_split: str = "train"
    """Split of `hf:` data sets."""
    hub_config: str | None = None
    """Configuration of `hf:` data sets."""

    @property
    def num_workers(self) -> int:
        """How many processes."""
        if self.workers is not None:
            return self.workers
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class ConvertPlan:
    """What would be done."""

    request: ConvertRequest
    """As asked for."""
    work: Work
    """What to do with each part."""
    inputs: Inputs
    """What would be read."""
    finished: bool
    """The output is there already."""

    @property
    def estimated_tokens(self) -> int | None:
        """About how many, by the size of the input."""
        return self.inputs.size_bytes // _BYTES_A_TOKEN if self.work.settings.tokens else None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "out": self.request.out,
            "finished": self.finished,
            "inputs": [found.identity() for found in self.inputs.inputs],
            "size_bytes": self.inputs.size_bytes,
            "parts": len(self.inputs.parts),
            "workers": self.request.num_workers,
            "estimated_tokens": self.estimated_tokens,
            "settings": self.work.settings.to_json(),
            "tokenizer": asdict(self.work.settings.tokens) if self.work.settings.tokens else None,
        }


def make_plan(request: ConvertRequest) -> ConvertPlan:
    """Check all that was asked for and look at the inputs, without writing anything.

    Raises:
        UsageError: something cannot be done; all that is found at once is told at once.
    """
    work, inputs = _prepare(request)
    finished = find_converted(work, plan_of(work.settings, inputs)) is not None
    return ConvertPlan(request=request, work=work, inputs=inputs, finished=finished)


def run(request: ConvertRequest) -> Converted:
    """Convert, or go on with a conversion that was cut off.

    Raises:
        UsageError: see `make_plan`.
        GateError: too many documents cannot be used.
        GenaiError: another process converts into the same place.
    """
    work, inputs = _prepare(request)
    return convert(work, inputs, num_workers=request.num_workers, max_bad=request.max_bad)


def _prepare(request: ConvertRequest) -> tuple[Work, Inputs]:
    if problems := list(_problems(request)):
        raise ConfigError(problems)
    _warn_of_idle(request)
    hub_options = HubOptions(split=request.hub_split, config=request.hub_config)
    inputs = find_inputs(request.sources, part_bytes=request.part_bytes, hub_options=hub_options, open_table=open_delta)
    settings = ConvertSettings(
        target=request.target,
        format=request.format,
        columns=_pairs(request.columns),
        shares=parse_shares(request.splits),
        seed=request.seed,
        compression=request.compression,
        shard_bytes=request.shard_bytes,
        part_bytes=request.part_bytes,
    )
    reader = Reader(inputs=inputs.inputs, settings=settings, hub_options=hub_options, open_table=open_delta)
    settings = fit_to_records(reader, inputs, text_column=request.text)
    tokenizer_json = None
    if request.target == "tokens":
        tokenizer_json, tokens = _tokens(request)
        settings = replace(settings, tokens=tokens)
    return Work(reader=replace(reader, settings=settings), out=request.out, tokenizer_json=tokenizer_json), inputs


def _problems(request: ConvertRequest) -> Iterator[Problem]:
    """What is wrong with the request as far as can be told without reading the inputs."""
    if request.target == "tokens":
        if request.tokenizer is None:
            fix = "name one: --tokenizer gallery:smollm2-135m-instruct, or train one: genai data tokenizer"
            yield Problem(message="tokens need a tokenizer", fix=fix)
        elif (problem := tokenizer_problem(request.tokenizer)) is not None:
            yield replace(problem, where="--tokenizer")
        if request.seq_len is None:
            yield Problem(message="tokens need a length of their rows", fix="e.g. --seq-len 2048")
    checks: list[Callable[[], object]] = [
        lambda: parse_shares(request.splits),
        lambda: _pairs(request.columns),
        lambda: parse_compression(request.compression) if request.compression else None,
        lambda: open_store(request.out),
        lambda: _check_sources(request),
    ]
    for check in checks:
        try:
            check()
        except UsageError as error:
            yield from error.problems


def _check_sources(request: ConvertRequest) -> None:
    """Whether what lies on this machine is there, and the output lies outside of it."""
    local = [ref for ref in request.sources if not is_remote(ref) and not ref.startswith(_SCHEMES)]
    for reference in request.sources:
        if reference.startswith("delta:"):
            split_table_reference(reference)
    find_files(local, suffixes=KNOWN_SUFFIXES)
    for reference in local:
        if not is_remote(request.out) and path_of(reference).resolve() in [
            path_of(request.out).resolve(),
            *path_of(request.out).resolve().parents,
        ]:
            raise UsageError(f"--out lies in the source {reference}", where=request.out, fix="choose another --out")


def _warn_of_idle(request: ConvertRequest) -> None:
    tokens_only = {"--tokenizer": request.tokenizer, "--seq-len": request.seq_len, "--end-of-text": request.end_of_text}
    rows_only = {"--format": request.format if request.format != "auto" else None, "--column": request.columns or None}
    idle = rows_only if request.target == "tokens" else tokens_only
    for name in (name for name, value in idle.items() if value is not None):
        _log.warning("%s has no effect with --to %s", name, request.target)


def _pairs(words: Sequence[str]) -> dict[str, str]:
    """`["prompt=q"]` as a mapping.

    Raises:
        UsageError: one is no pair.
    """
    wrong = [word for word in words if not all(word.partition("="))]
    if wrong:
        fix = "write what the format expects and what your file calls it: prompt=question"
        raise UsageError(f"'{wrong[0]}' is no mapping of a column", where="--column", fix=fix)
    return dict(word.split("=", 1) for word in words)


def _tokens(request: ConvertRequest) -> tuple[str, TokenSettings]:
    """The tokenizer as data, and how its tokens are stored."""
    assert request.tokenizer is not None and request.seq_len is not None
    tokenizer = load_fast_tokenizer(request.tokenizer, end_of_text=request.end_of_text)
    return tokenizer.json, TokenSettings(
        seq_len=request.seq_len,
        dtype="uint16" if tokenizer.vocab_size <= _TOKENS_OF_UINT16 else "uint32",
        end_of_text=tokenizer.end_of_text,
        end_of_text_id=tokenizer.end_of_text_id,
        tokenizer=request.tokenizer,
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
    )
