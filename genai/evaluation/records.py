"""What the parts of an evaluation say to each other.

    dataset   rows of a file                             -> Example
    target    is asked a Question of each                -> Answer, Likelihoods, Ranking or Failure
    metric    looks at one example and its outcome       -> Score (sufficient statistics), or Unscored
    measure   adds up the scores of all examples         -> Measured: value, interval, slices

Nothing here imports more than the standard library; everything can be written as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from genai.config.eval import DatasetKind

# --- examples and questions -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Chat:
    """A conversation (or a plain prompt) that wants an answer."""

    messages: tuple[Mapping[str, Any], ...] = ()
    """Of {role, content} and what else OpenAI's form has; empty where `prompt` is the whole text."""
    prompt: str | None = None
    """Plain text to be continued, in place of messages."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """Functions that the model may call, in OpenAI's form."""
    json_schema: Mapping[str, Any] | None = None
    """What the answer must be."""
    max_tokens: int | None = None
    """In place of the target's."""
    stop: tuple[str, ...] | None = None
    """In place of the target's."""


@dataclass(frozen=True, kw_only=True)
class Continuations:
    """Texts whose likelihood after a context is wanted."""

    pairs: tuple[tuple[str, str], ...]
    """(context, continuation) each; an empty context stands for the beginning of a text."""


@dataclass(frozen=True, kw_only=True)
class WholeText:
    """A text whose likelihood is wanted, in windows."""

    text: str
    context: int | None = None
    """Tokens the model looks at, at most; None: all it can."""
    stride: int | None = None
    """Tokens a window moves on; None: as many as it looks at."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is looked for."""

    text: str
    k: int
    """How many documents are wanted."""


Question = Chat | Continuations | WholeText | Query


@dataclass(frozen=True, kw_only=True)
class Example:
    """One row of a data set: a question and what is right."""

    id: str
    """From the column `id`, else a hash of the row's content; unique in its data set."""
    dataset: str
    kind: DatasetKind
    question: Question
    references: tuple[str, ...] = ()
    """Right answers, any of them; a JSON text where the answer is a structure; of classification the label."""
    gold: int | None = None
    """Which of several continuations is right."""
    relevant: Mapping[str, float] = field(default_factory=dict)
    """Keys of the documents that answer a query, and their grades."""
    contexts: tuple[str, ...] = ()
    """Passages that the answer should rest on, where the row names them."""
    expected_tools: tuple[Mapping[str, Any], ...] = ()
    """Calls that are right: {name, arguments}."""
    slices: Mapping[str, str] = field(default_factory=dict)
    """Column -> value."""
    cluster: str | None = None
    """Rows of the same cluster are no independent evidence."""
    synthetic: bool = False
    """The question was made by a model."""


# --- outcomes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What an answer took."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None
    """None: no price is known."""
    latency_s: float | None = None
    """From sending the request to the last token; None: not measured (logged, or taken from an earlier run)."""
    ttft_s: float | None = None
    """To the first token."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a target said."""

    text: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """{name, arguments (a JSON text)}."""
    contexts: tuple[str, ...] = ()
    """Passages that a retrieval chain rested the answer on."""
    finish_reason: str | None = None
    """stop, length, tool_calls, ..."""
    usage: Usage = field(default_factory=Usage)
    cached: bool = False
    """It was not asked for again."""


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Of one continuation."""

    logprob: float
    """Sum over its tokens, natural logarithm."""
    num_tokens: int
    is_greedy: bool
    """Whether the model would have said the same."""


@dataclass(frozen=True, kw_only=True)
class Likelihoods:
    """Of all continuations of a question, in order; of a whole text one."""

    each: tuple[Likelihood, ...]
    usage: Usage = field(default_factory=Usage)
    cached: bool = False


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What was found, best first."""

    keys: tuple[str, ...]
    """Of documents, each once."""
    texts: tuple[str, ...] = ()
    """Of the best chunk of each."""
    usage: Usage = field(default_factory=Usage)
    cached: bool = False


@dataclass(frozen=True, kw_only=True)
class Failure:
    """No outcome, and why: never a score of zero."""

    reason: str
    """In words: `HTTP 500: ...`, `no answer in 120 s`."""
    usage: Usage = field(default_factory=Usage)


Outcome = Answer | Likelihoods | Ranking | Failure


# --- scores -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a metric says of one example."""

    parts: tuple[float, ...]
    """Sufficient statistics; what they mean is the metric's. A plain mean has one."""
    value: float | None = None
    """Of this example alone, to be shown and compared; None where only the sum of many means something."""
    note: str = ""
    """Why: a judge's reason, the field that is wrong."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What a report may show beside it."""
    usage: Usage | None = None
    """What the scoring itself took (a judge's tokens)."""


@dataclass(frozen=True, kw_only=True)
class Unscored:
    """A metric could say nothing of an example, and why: it is left out and counted, never scored as zero or one."""

    reason: str
    usage: Usage | None = None


@dataclass(frozen=True, kw_only=True)
class Scored:
    """An example with everything that was found out about it, of one target."""

    example: Example
    outcome: Outcome
    scores: Mapping[str, Score | Unscored] = field(default_factory=dict)
    """Label of the metric -> what it says."""


# --- results ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SliceValue:
    """A metric on the rows of one slice."""

    column: str
    value: str
    num: int
    """Rows that were scored."""
    measured: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """With the baseline, on the examples that both have a score for."""

    baseline: float
    """The baseline's value on them."""
    value: float
    """The target's."""
    difference: float
    """value - baseline."""
    low: float
    """Lower end of the interval of the difference."""
    high: float
    p_value: float
    """Chance of a difference as large, either way, if target and baseline were alike (permutation within pairs)."""
    p_adjusted: float
    """After correction for all comparisons of this job."""
    significant: bool
    wins: int
    """Examples on which the target is better; losses and ties are the others."""
    losses: int
    ties: int
    num: int
    """Pairs."""
    needed: int | None = None
    """Examples that it takes to see a difference of 2 points (0.02) with the wanted power; None: cannot be told."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A metric on a data set, of one target."""

    target: str
    dataset: str
    metric: str
    """The label."""
    value: float
    low: float
    high: float
    num: int
    """Examples that were scored."""
    num_clusters: int
    num_failed: int = 0
    """Examples without an answer."""
    num_unscored: int = 0
    """Answers that the metric could say nothing of."""
    unit: str = ""
    """s, usd, tokens; empty for shares and scores."""
    higher_is_better: bool = True
    slices: tuple[SliceValue, ...] = ()
    """Worst first."""
    comparison: Comparison | None = None
    synthetic: bool = False
    """At least one question was made by a model."""
    trusted: bool = True
    """Whether a gate may rest on it: False for a judge that was not calibrated, or does not agree with people."""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """In gates: `faq.token_f1`."""
        return f"{self.dataset}.{self.metric}"


@dataclass(frozen=True, kw_only=True)
class GateOutcome:
    """A gate, held against what was measured."""

    gate: str
    """As it was written."""
    target: str
    passed: bool
    reason: str
    """In figures."""


@dataclass(frozen=True, kw_only=True)
class EvalResult:
    """What an evaluation found; `result.json` of its run."""

    run: str
    path: str
    """Of the run directory."""
    targets: tuple[str, ...]
    baseline: str | None
    measured: tuple[Measured, ...]
    gates: tuple[GateOutcome, ...]
    usage: Mapping[str, Usage]
    """Target or judge -> all that its answers took in this run; what was taken from an earlier run costs nothing."""
    num_examples: Mapping[str, int]
    """Data set -> examples."""
    fingerprints: Mapping[str, str]
    """Data set, target or judge -> what it was."""
    warnings: tuple[str, ...] = ()
    averages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Target -> average of a gauntlet -> value."""
    report: str | None = None
    """report.html."""
    seconds: float = 0.0
    kind: str = "eval"

    @property
    def passed(self) -> bool:
        """Whether all gates hold."""
        return all(gate.passed for gate in self.gates)


def texts_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """A conversation as one text, for people: `user: ...`."""
    return "\n".join(f"{message.get('role', '?')}: {message.get('content', '')}" for message in messages)
