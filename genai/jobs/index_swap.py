"""`genai index swap, rollback`: puts another encoder in, and takes that back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.config.checking import check
from genai.config.embedding import EmbeddingConfig
from genai.config.overrides import apply_overrides
from genai.config.tree import Node, Origin, graft
from genai.errors import ConfigError, Problem, UsageError
from genai.jobs.index_parts import encoder_opener, open_index_engine, open_ledger, read_config, write_embedding
from genai.jobs.index_result import IndexResult, result_of

if TYPE_CHECKING:
    from genai.index.swap import SwapReport

_SECTION = "embedding"


@dataclass(frozen=True, kw_only=True)
class SwapRequest:
    """What the command line asks for."""

    name: str
    """Of the index."""
    indexes_dir: Path
    """Where indexes lie."""
    model: str
    """Reference of the new model."""
    overrides: tuple[str, ...] = ()
    """Further settings of it, `embedding.KEY=VALUE` each."""
    queries: Path | None = None
    """Labelled queries that both are measured on."""
    without_evaluation: bool = False
    """Swap without measuring."""
    tolerance: float
    """How much worse the new one may be, at the lower end of the interval."""
    drop_if_worse: bool = False
    """Remove the new generation when it does not pass."""
    allow_code: bool = False
    """Whether the encoders may bring their own Python."""


@dataclass(frozen=True, kw_only=True)
class Swapped:
    """An index that answers with another encoder."""

    index: str
    before: str
    """Model of the generation that answered."""
    after: str
    """Model of the one that answers now."""
    generation: str
    """Its name."""
    num_embedded: int
    """Texts that the new encoder was asked for."""
    mode: str | None
    """How both were asked."""
    num_queries: int
    tolerance: float
    comparisons: Sequence[Mapping[str, Any]]
    """metric, before, after, and the difference with its interval (95 %); empty where nothing was measured."""
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)


def run(request: SwapRequest) -> Swapped:
    """Build a second generation, compare, and let it answer.

    Raises:
        UsageError: there is no such index, it has this encoder already, or nothing says how to compare.
        GateError: the new one is not good enough; the old one answers on.
    """
    report = attempt(request)
    report.check()
    return Swapped(
        index=request.name,
        before=report.before.embedding_config.model,
        after=report.after.embedding_config.model,
        generation=report.after.name,
        num_embedded=report.num_embedded,
        mode=report.mode,
        num_queries=report.num_queries,
        tolerance=report.tolerance,
        comparisons=[asdict(comparison) for comparison in report.comparisons],
        seconds=report.seconds,
    )


def attempt(request: SwapRequest) -> SwapReport:
    """Like `run`; one that is not good enough is told by the report.

    Raises:
        UsageError: see `run`.
    """
    from genai.index import swap
    from genai.index.labelled_queries import read_queries

    if (request.queries is None) != request.without_evaluation:
        fix = "--evaluate FILE measures both encoders on your queries, --without-evaluation trusts the new one"
        raise UsageError("say how the new encoder is judged", fix=fix)
    queries = read_queries(str(request.queries)) if request.queries is not None else None
    with open_ledger(request.name, request.indexes_dir, read_only=False) as ledger:
        config = read_config(ledger)
        report = swap.swap(
            ledger,
            open_index_engine(config, ledger),
            config,
            new_embedding(request.model, request.overrides),
            encoder_of=encoder_opener(config, allow_code=request.allow_code),
            queries=queries,
            tolerance=request.tolerance,
            drop_if_worse=request.drop_if_worse,
        )
        if report.passed:
            write_embedding(ledger)
        return report


def rollback(name: str, *, indexes_dir: Path, allow_code: bool = False) -> IndexResult:
    """Let the generation before the last swap answer again.

    Raises:
        UsageError: there is no such index, or nothing to go back to.
    """
    from genai.index import swap

    with open_ledger(name, indexes_dir, read_only=False) as ledger:
        config = read_config(ledger)
        encoder_of = encoder_opener(config, allow_code=allow_code)
        swap.rollback(ledger, open_index_engine(config, ledger), config, encoder_of=encoder_of)
        write_embedding(ledger)
        return result_of(ledger, "rollback")


def new_embedding(model: str, overrides: Sequence[str]) -> EmbeddingConfig:
    """The section `embedding` of another model.

    Args:
        model: its reference.
        overrides: `embedding.KEY=VALUE` each.

    Raises:
        ConfigError: a setting is unknown, wrong, or of another section.
    """
    strangers = [text for text in overrides if not text.startswith(f"{_SECTION}.")]
    if strangers:
        fix = "a swap changes the encoder only: write embedding.KEY=VALUE"
        raise ConfigError(
            [Problem(message="this is no setting of the encoder", where=text, fix=fix) for text in strangers]
        )
    tree: Node = graft({_SECTION: {"model": model}}, Origin("override", f"--embedding {model}"))
    tree, problems = apply_overrides(tree, overrides)
    section = tree.child(_SECTION)
    assert section is not None
    config, found = check(EmbeddingConfig, section)
    if config is None or problems or found:
        raise ConfigError([*problems, *found])
    return config
