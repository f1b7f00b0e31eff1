"""Synthetic queries from beginning to end: chosen passages, drafts, the round trip, the judge, the yield."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from genai.config.embed_finetune import SyntheticQueriesConfig
from genai.data.retrieval.records import Passage
from genai.embedding.tuning.interfaces import Generator, NeighboursOf, TextEmbedder, Vectors
from genai.embedding.tuning.synthetic.asking import Asked
from genai.embedding.tuning.synthetic.cache import AnswerCache, open_cache
from genai.embedding.tuning.synthetic.choosing import choose_passages
from genai.embedding.tuning.synthetic.drafts import Draft, Dropped, Made, MadeCounts
from genai.embedding.tuning.synthetic.estimating import check_cost, estimate
from genai.embedding.tuning.synthetic.inverse_cloze import inverse_cloze
from genai.embedding.tuning.synthetic.judging import judge_drafts
from genai.embedding.tuning.synthetic.round_trip import round_trip
from genai.embedding.tuning.synthetic.title_body import title_body
from genai.embedding.tuning.synthetic.writing import Written, wishes, write
from genai.errors import GateError
from genai.log import get_logger

EXAMPLES_A_REASON = 3
"""Dropped queries that are kept for the report."""
_SHOWN = 3
_log = get_logger(__name__)


def make_queries(
    passages: Sequence[Passage],
    config: SyntheticQueriesConfig,
    *,
    generator: Generator | None,
    judge: Generator | None,
    embedder: TextEmbedder,
    neighbours_of: NeighboursOf,
    corpus: Sequence[Passage],
    cache: Path,
    seed: int,
    corpus_vectors: Vectors | None = None,
) -> Made:
    """Make queries of passages, and keep those that are of use.

    The same call goes on where one was cut off: answers are in the cache, everything else follows from the seed.

    Args:
        passages: what queries are made of.
        config: the section.
        generator: writes them; None takes `config.methods`, which need none.
        judge: has the last word on each; None leaves it out.
        embedder: the model to be tuned, for the round trip.
        neighbours_of: finds the nearest passages.
        corpus: what the round trip searches; `passages` are in it.
        cache: file of all answers, made where it is missing; jobs may share one.
        seed: of the job.
        corpus_vectors: of the corpus, where they are known already.

    Raises:
        GateError: the estimate is above max_usd, or fewer queries than min_yield are of use.
        GenaiError: the generator, the judge or the cache fails; what was answered until then is kept.
    """
    expected = estimate(passages, config, generator, judge, seed=seed, cache=cache)
    check_cost(expected, config)
    if expected.num_prompts:
        _log.info("%s", expected.line())
    chosen = choose_passages(passages, config.max_chunks, seed=seed)
    with open_cache(cache) as answers:
        written = _drafts(chosen, config, generator, answers, seed)
        found, lost = round_trip(
            written.drafts,
            corpus,
            k=config.round_trip_k,
            embedder=embedder,
            neighbours_of=neighbours_of,
            vectors=corpus_vectors,
        )
        kept, denied, judge_usd = _judged(found, config, judge, answers, seed)
    all_dropped = [*written.dropped, *lost, *denied]
    num_made = len(written.drafts) + len(written.dropped)
    made = Made(
        pairs=tuple(draft.pair() for draft in kept),
        counts=MadeCounts(
            method=generator.name if generator else ",".join(dict.fromkeys(config.methods)),
            num_passages=len(chosen),
            num_made=num_made,
            num_round_trip=len(found),
            num_judged=len(kept),
            yield_share=len(kept) / num_made if num_made else 0.0,
            usd=written.usd + judge_usd,
        ),
        by_style=_by_style(kept, all_dropped),
        reasons=dict(Counter(each.reason for each in all_dropped).most_common()),
        dropped=tuple(_examples(all_dropped)),
    )
    _log_yield(made, judged=judge is not None)
    _check_yield(made, config)
    return made


def _drafts(
    chosen: Sequence[Passage],
    config: SyntheticQueriesConfig,
    generator: Generator | None,
    answers: AnswerCache,
    seed: int,
) -> Written:
    if generator is not None:
        if config.generator is None:
            raise ValueError("a generator without its config")
        asked = Asked(generator=generator, config=config.generator, cache=answers)
        return write(asked, wishes(chosen, config, seed=seed), seed=seed)
    drafts: list[Draft] = []
    for method in dict.fromkeys(config.methods):
        if method == "title_body":
            drafts += title_body(chosen)
        else:
            drafts += inverse_cloze(chosen, config.queries_per_chunk, seed=seed)
    return Written(drafts=tuple(drafts), dropped=(), usd=0.0)


def _judged(
    drafts: list[Draft], config: SyntheticQueriesConfig, judge: Generator | None, answers: AnswerCache, seed: int
) -> tuple[list[Draft], list[Dropped], float]:
    if judge is None or config.judge is None:
        return drafts, [], 0.0
    return judge_drafts(Asked(generator=judge, config=config.judge, cache=answers), drafts, seed=seed)


def _by_style(kept: Sequence[Draft], lost: Sequence[Dropped]) -> dict[str, tuple[int, int]]:
    good = Counter(draft.style for draft in kept)
    made = good + Counter(each.style for each in lost)
    return {style: (made[style], good[style]) for style in sorted(made)}


def _examples(lost: Sequence[Dropped]) -> Iterator[Dropped]:
    """A few of each reason, in the order in which they came."""
    for reason in dict.fromkeys(each.reason for each in lost):
        yield from islice((each for each in lost if each.reason == reason), EXAMPLES_A_REASON)


def _log_yield(made: Made, *, judged: bool) -> None:
    counts = made.counts
    steps = f"{counts.num_round_trip} by the round trip" + (f", {counts.num_judged} by the judge" if judged else "")
    styles = ", ".join(f"{style} {kept}/{asked}" for style, (asked, kept) in made.by_style.items())
    _log.info(
        "synthetic queries: %d made of %d passages, kept %s: a yield of %.1f %% (%s)",
        counts.num_made,
        counts.num_passages,
        steps,
        100 * counts.yield_share,
        styles,
    )


def _check_yield(made: Made, config: SyntheticQueriesConfig) -> None:
    counts = made.counts
    if counts.num_made == 0:
        raise GateError(
            f"no query can be made of {counts.num_passages} passages",
            where="data.synthetic_queries",
            fix="inverse_cloze takes passages of two sentences and more, title_body a title; or name a generator",
        )
    if counts.num_judged and counts.yield_share >= config.min_yield:
        return
    reasons = ", ".join(f"{number} {reason}" for reason, number in made.reasons.items())
    shown = "; ".join(f"{each.query!r} ({each.reason})" for each in _most_frequent(made))
    way_out = "other methods" if config.generator is None else "a stronger generator, other styles"
    raise GateError(
        f"only {counts.num_judged} of {counts.num_made} synthetic queries ({counts.yield_share:.1%}) are of use, "
        f"min_yield is {config.min_yield:.0%}: {reasons}; e.g. {shown}",
        where="data.synthetic_queries.min_yield",
        fix=f"take {way_out}, a larger round_trip_k, or lower min_yield",
    )


def _most_frequent(made: Made) -> list[Dropped]:
    """Three dropped queries, of different reasons where there are as many."""
    order = {reason: place for place, reason in enumerate(made.reasons)}
    nth: Counter[str] = Counter()
    ranked = []
    for each in made.dropped:
        ranked.append((nth[each.reason], order[each.reason], each))
        nth[each.reason] += 1
    return [each for _, _, each in sorted(ranked, key=lambda entry: entry[:2])[:_SHOWN]]
