"""Puts a new embedding model in beside the old one, compares the two, and lets the better one answer.

    1. A second generation is begun, and all chunks are embedded for it; syncs and queries go on meanwhile.
    2. Its points are made and published; from now on every sync feeds both generations.
    3. Both answer the same labelled queries. The new one may take over when no difference has an interval (paired
       bootstrap, 95 %) that reaches below -tolerance: if it is any worse, then by no more than that.
    4. One transaction of the ledger makes it the one that answers. The old one is kept for `rollback`.

A swap that was cut off goes on where it was when it is asked for again; nothing is embedded twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial

from genai.config.embedding import EmbeddingConfig
from genai.config.index import IndexConfig
from genai.errors import GateError, GenaiError, UsageError
from genai.index import generations
from genai.index.applying import Applier
from genai.index.comparison import Comparison, compare
from genai.index.encoding import count_missing, embed_missing
from genai.index.interfaces import Encoder, Engine
from genai.index.labelled_queries import LabelledQuery
from genai.index.ledger import Ledger
from genai.index.ledger_records import Generation
from genai.index.requests import Mode
from genai.index.search import Index
from genai.index.shape import Shape
from genai.log import get_logger, progress

TOLERANCE = 0.02
"""How much worse the new one may be, at the lower end of the interval."""
WAIT_S = 3600.0
"""How long a sync that is under way is waited for."""
_PAUSE_S = 0.25
_log = get_logger(__name__)

EncoderOf = Callable[[EmbeddingConfig], Encoder]


@dataclass(frozen=True, kw_only=True)
class SwapReport:
    """What a swap did."""

    before: Generation
    """That answered."""
    after: Generation
    """The new one."""
    num_embedded: int
    """Texts that the new encoder was asked for."""
    mode: Mode | None
    """How both were asked; None where there were no queries."""
    num_queries: int
    tolerance: float
    comparisons: tuple[Comparison, ...]
    """One a measure; empty where there were no queries."""
    dropped: bool
    """The new generation did not pass and was removed."""
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether nothing spoke against the new generation."""
        return all(comparison.passed for comparison in self.comparisons)

    def check(self) -> None:
        """Say so when the new generation did not pass.

        Raises:
            GateError: it did not; the old one still answers.
        """
        if self.passed:
            return
        wrong = "; ".join(
            f"{one.metric} {one.before:.3f} -> {one.after:.3f}, difference at least {one.difference.low:+.3f}"
            for one in self.comparisons
            if not one.passed
        )
        kept = "it was dropped" if self.dropped else f"it is kept as '{self.after.name}', and fed by syncs"
        raise GateError(
            f"the new encoder is not good enough: {wrong} (allowed: {-self.tolerance:+.3f}); {kept}",
            fix="raise --tolerance, label more queries, or take another model",
        )


def swap(
    ledger: Ledger,
    engine: Engine,
    config: IndexConfig,
    embedding: EmbeddingConfig,
    *,
    encoder_of: EncoderOf,
    queries: Sequence[LabelledQuery] | None,
    tolerance: float = TOLERANCE,
    drop_if_worse: bool = False,
    wait_s: float = WAIT_S,
) -> SwapReport:
    """Let another encoder answer, unless it is worse. Whether it does now is in the report: see `SwapReport.check`.

    Args:
        ledger: of the index, opened for writing; the caller does not hold `ledger.alone()`.
        engine: of the index.
        config: of the last sync.
        embedding: the new encoder.
        encoder_of: opens encoders, the old one's too where there are queries.
        queries: to compare by, as `read_queries` gave them; None swaps without a comparison.
        tolerance: see `SwapReport`.
        drop_if_worse: remove a generation that did not pass; else it stays beside the other.
        wait_s: how long a sync that is under way is waited for.

    Raises:
        UsageError: the index is empty, or has this encoder already.
        DataError: the queries do not fit the index.
        GenaiError: another process kept changing the index.
    """
    started = time.monotonic()
    encoder = encoder_of(embedding)
    with _alone(ledger, wait_s):
        before, after = _begin(ledger, embedding, encoder)
    num_embedded = _embed(ledger, encoder, config.sync.batch_size)  # long, and others may sync meanwhile
    applier = _applier(ledger, engine, config, before, lambda wanted: _same(wanted, encoder, encoder_of))
    with _alone(ledger, wait_s):
        after = applier.bring_up(ledger.generation(after.name), state="ready")
        applier.sweep()
    comparisons: tuple[Comparison, ...] = ()
    mode: Mode = config.search.mode if config.search.mode != "bm25" else "dense"
    if queries is not None:
        open_index = partial(Index.open, ledger.folder, config, engine=engine)
        with (
            open_index(encoder_of=encoder_of) as old,
            open_index(encoder_of=lambda _: encoder, generation=after.name) as new,
        ):
            comparisons = compare(old, new, queries, mode=mode, tolerance=tolerance)
    passed = all(comparison.passed for comparison in comparisons)
    if passed:
        after = _make_live(applier, after, wait_s)
    elif drop_if_worse:
        with _alone(ledger, wait_s):
            generations.drop_generation(ledger, _present_form(ledger, after).name)
            applier.sweep()
    return SwapReport(
        before=before,
        after=after,
        num_embedded=num_embedded,
        mode=mode if queries is not None else None,
        num_queries=len(queries or ()),
        tolerance=tolerance,
        comparisons=comparisons,
        dropped=not passed and drop_if_worse,
        seconds=time.monotonic() - started,
    )


def rollback(
    ledger: Ledger, engine: Engine, config: IndexConfig, *, encoder_of: EncoderOf, wait_s: float = WAIT_S
) -> Generation:
    """Let the generation before answer again; the one that answers now is kept in its turn.

    What was synced since the swap is applied to it first, and embedded where its encoder never saw it.

    Args:
        ledger, engine, config, encoder_of, wait_s: see `swap`.

    Returns:
        the generation that answers now.

    Raises:
        UsageError: there is none to go back to.
    """
    previous = generations.previous(ledger)
    live = ledger.live()
    assert live is not None, "a retired generation was replaced by a live one"
    applier = _applier(ledger, engine, config, live, lambda wanted: encoder_of(wanted.embedding_config))
    return _make_live(applier, previous, wait_s)


def _begin(ledger: Ledger, embedding: EmbeddingConfig, encoder: Encoder) -> tuple[Generation, Generation]:
    before = ledger.live()
    if before is None:
        fix = "set the section embedding of its config, and fill it: genai index CONFIG.yaml"
        raise UsageError(f"index '{ledger.name}' has no embeddings to swap yet", fix=fix)
    if before.fingerprint == encoder.fingerprint:
        raise UsageError(f"index '{ledger.name}' is embedded by this already", where=embedding.model)
    after = generations.begin_generation(
        ledger,
        embedding=asdict(embedding),
        fingerprint=encoder.fingerprint,
        dimension=encoder.dimension,
        shape=_shape_of(before),
    )
    return before, after


def _embed(ledger: Ledger, encoder: Encoder, batch_size: int) -> int:
    with progress("embedding", count_missing(ledger, encoder.fingerprint)) as task:
        done = 0

        def embedded(num: int) -> None:
            nonlocal done
            done += num
            task.update(done)

        return embed_missing(ledger, encoder, batch_size=batch_size, progress=embedded)


def _make_live(applier: Applier, wanted: Generation, wait_s: float) -> Generation:
    with _alone(applier.ledger, wait_s):
        generation = applier.bring_up(_present_form(applier.ledger, wanted))
        live = generations.make_live(applier.ledger, generation.name)
        applier.sweep()
    return live


def _present_form(ledger: Ledger, wanted: Generation) -> Generation:
    """The generation, which has another name when a sync has made its points anew meanwhile."""
    same = [
        each for each in ledger.generations() if each.fingerprint == wanted.fingerprint and each.state != "building"
    ]
    if not same:
        raise UsageError(f"generation '{wanted.name}' was dropped meanwhile", where=ledger.name, fix="swap again")
    return next((each for each in same if each.name == wanted.name), same[-1])


def _applier(
    ledger: Ledger,
    engine: Engine,
    config: IndexConfig,
    live: Generation,
    encoder_of: Callable[[Generation], Encoder],
) -> Applier:
    return Applier(ledger=ledger, engine=engine, config=config, shape=_shape_of(live), encoder_of=encoder_of)


def _shape_of(generation: Generation) -> Shape:
    """That of the points that answer now: a swap exchanges nothing but the vectors."""
    return Shape(columns=generation.columns, has_tenants=generation.has_tenants, fingerprint=generation.shape)


def _same(wanted: Generation, encoder: Encoder, encoder_of: EncoderOf) -> Encoder:
    return encoder if wanted.fingerprint == encoder.fingerprint else encoder_of(wanted.embedding_config)


@contextmanager
def _alone(ledger: Ledger, wait_s: float) -> Iterator[None]:
    """Be the only process that changes the index, once a sync that is under way is done."""
    deadline = time.monotonic() + wait_s
    is_first = True
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(ledger.alone())
                break
            except GenaiError as error:
                if time.monotonic() >= deadline:
                    raise
                if is_first:
                    _log.info("waiting: %s", error.message)
                is_first = False
                time.sleep(_PAUSE_S)
        yield
