"""The schema of `genai eval`: what a job file may say, with its defaults.

Every class is a frozen keyword-only dataclass; the text under a field is its documentation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from genai.config.fields import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Share

# --- what is measured -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How answers are drawn."""

    max_tokens: PositiveInt = 256
    """Length of an answer, at most; one that is cut off there is counted."""
    temperature: NonNegativeFloat = 0.0
    """0 always takes the likeliest token."""
    top_p: Share = 1.0
    """Only the likeliest tokens that together have this share."""
    seed: int = 17
    """Of the draw, where the target can be told one."""
    stop: list[str] = field(default_factory=list)
    """Texts that end an answer."""


@dataclass(frozen=True, kw_only=True)
class PriceConfig:
    """What tokens cost."""

    usd_per_million_input_tokens: NonNegativeFloat = 0.0
    """Of the prompt."""
    usd_per_million_output_tokens: NonNegativeFloat = 0.0
    """Of the answer."""


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """What is asked: a model in this process, an endpoint, an index, or a file of answers that were logged earlier."""

    model: str | None = None
    """A model reference, run in this process; with endpoint the name that the endpoint knows it by."""
    endpoint: str | None = None
    """Of an OpenAI-compatible server, e.g. http://127.0.0.1:8080 or https://api.openai.com/v1."""
    index: str | None = None
    """Name of an index of `genai index`, for datasets of kind retrieval."""
    indexes_dir: str = "indexes"
    """Where indexes lie."""
    file: str | None = None
    """JSON lines of {id, answer}, and optionally contexts, latency_s, prompt_tokens, completion_tokens, usd."""
    api_key: str | None = None
    """Of the endpoint: env:NAME or file:PATH."""
    api: Literal["chat", "completions"] = "chat"
    """How a model or an endpoint is asked: by messages (and the model's chat template), or by plain text."""
    system: str | None = None
    """Put before every conversation."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How answers are drawn."""
    price: PriceConfig = field(default_factory=PriceConfig)
    """For the estimate before the start and the cost of each answer."""
    concurrency: PositiveInt = 16
    """Requests under way at once; of a model in this process, answers."""
    timeout_s: PositiveFloat = 120.0
    """How long one answer may take."""
    max_attempts: PositiveInt = 5
    """How often a request is made while the endpoint is busy or fails, with pauses that grow."""
    stream: bool = False
    """Ask an endpoint for a stream, so that the time to the first token is measured."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Keys of an endpoint's own, sent with every request."""
    reuse_answers: bool = False
    """Take answers of earlier runs from an endpoint, though nobody can tell whether the same model is still behind it.
    Those of a model in this process are always taken again: its weights have a fingerprint."""
    precision: Literal["auto", "bf16", "fp32", "int8"] = "auto"
    """Arithmetic of a model in this process; auto: bf16 where the processor has it."""
    batch_size: PositiveInt = 16
    """Texts a forward pass, where a model in this process is asked for likelihoods."""
    max_model_len: PositiveInt | None = None
    """Tokens of prompt and answer together; by default the model's context."""
    chat_template: str | None = None
    """Jinja, in place of the model's own."""
    trust_remote_code: bool = False
    """Run Python that comes with the model. Leave it off unless you have read that code."""
    mode: Literal["dense", "bm25", "hybrid"] | None = None
    """How an index is searched; by default as its job file has it."""
    filter: str | None = None
    """Of an index: only what passes, e.g. "topic = floors"."""


# --- data -------------------------------------------------------------------------------------------------------------

DatasetKind = Literal[
    "generation", "classification", "text", "multiple_choice", "language_modeling", "schema", "retrieval"
]


@dataclass(frozen=True, kw_only=True)
class FewShotConfig:
    """Solved examples that are put before every question."""

    num: PositiveInt
    """How many."""
    path: str | None = None
    """Where they come from; by default the data set itself, without the question's own row."""
    seed: int = 17
    """Which of them."""


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """Examples with what is right."""

    name: str
    """In results, and in gates: NAME.token_f1."""
    path: str
    """JSONL, Parquet, CSV, delta:URI[@version], s3://..., hf:DATASET or gallery:NAME; or runs:RUN, the rows that this
    run of genai finetune held back."""
    kind: DatasetKind = "generation"
    """generation: a prompt or messages, and reference answers. classification: the same with a label. text: whole
    texts, for perplexity. multiple_choice: query, choices, gold (number of the right one). language_modeling: context,
    continuation. schema: context_options, continuation, gold. retrieval: query, relevant (keys or key: grade)."""
    split: str = "test"
    """Of a data set on the hub."""
    columns: dict[str, str] = field(default_factory=dict)
    """Our name: the file's name, e.g. {prompt: q, reference: a}. Ours are id, prompt, messages, reference, contexts,
    label, tools, text, query, choices, gold, context, continuation, context_options, relevant."""
    prompt: str | None = None
    """Template of the prompt, with columns in braces: "Answer in one word: {question}"; nothing else is replaced."""
    few_shot: FewShotConfig | None = None
    """Solved examples before every question."""
    slices: list[str] = field(default_factory=list)
    """Columns whose values are reported apart, the worst one named."""
    cluster: str | None = None
    """Column of rows that belong together (one document, one conversation): they are drawn together by all statistics,
    so that many questions about one document do not look like much evidence."""
    limit: PositiveInt | None = None
    """Take at most this many rows, chosen by the seed."""
    sha256: str | None = None
    """What the file must have, so that a golden set cannot change unseen; printed by --dry-run."""
    synthetic: bool = False
    """The questions were made by a model; every result says so. A column `synthetic` says it row by row."""
    max_tokens: PositiveInt | None = None
    """Length of an answer, in place of the target's."""
    stop: list[str] | None = None
    """Texts that end an answer, in place of the target's."""
    json_schema: dict[str, Any] | None = None
    """What an answer must be: sent as response_format, and held by metric json_valid."""


@dataclass(frozen=True, kw_only=True)
class ContaminationConfig:
    """Looks for examples that the model saw in training."""

    training: str
    """The training data: a path as for datasets, or runs:RUN for what that run was trained on."""
    columns: dict[str, str] = field(default_factory=dict)
    """As for datasets; by default all texts of a row."""
    ngram: PositiveInt = 8
    """Words in a row that count as copied."""
    threshold: Share = 0.5
    """Share of an example's n-grams that training data holds, from which it is contaminated."""
    action: Literal["report", "exclude", "fail"] = "report"
    """What happens then: it is reported; it is left out as well; the job ends with exit code 3."""


# --- metrics and judges -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MetricConfig:
    """A measure with its settings; those that it does not know are refused."""

    name: str
    """Which one: `genai eval metrics` lists them."""
    label: str | None = None
    """How it is called in results and gates; by default its name."""
    datasets: list[str] | None = None
    """Where it is measured; by default wherever it can be."""
    ignore_case: bool | None = None
    """exact_match and others of text: capital letters make no difference."""
    ignore_punctuation: bool | None = None
    """The same for punctuation and the articles of English."""
    pattern: str | None = None
    """Of texts: a regular expression (with a time limit) whose first group is the answer proper."""
    fields: list[str] | None = None
    """json_fields: which fields are compared; by default those of the reference."""
    positive: str | None = None
    """auc: the label that counts as positive; classifier: the class whose probability is measured."""
    context: PositiveInt | None = None
    """perplexity: tokens the model looks at, at most; by default its context."""
    stride: PositiveInt | None = None
    """perplexity: tokens that a window moves on; by default the context, as lm-eval does."""
    percentile: PositiveFloat | None = None
    """latency: which one; by default 95."""
    judge: str | list[str] | None = None
    """Names of judges; of several, the mean of their scores, beside their agreement."""
    rubric: str | None = None
    """correctness, helpfulness, groundedness, ..., a file (Markdown or YAML), or the text itself."""
    pairwise: bool | None = None
    """judge: answers of target and baseline are shown together, in both orders."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Of a plugin; classifier: {model: REFERENCE, higher_is_better: false}."""


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """Answers that people have scored, to see whether a judge agrees with them."""

    path: str
    """JSON lines of {prompt, answer, score}, and optionally reference, contexts."""
    columns: dict[str, str] = field(default_factory=dict)
    """Our name: the file's name."""
    min_kappa: float = 0.4
    """Cohen's kappa with the people's verdicts from which on this judge's scores may decide a gate."""


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """A model that scores answers."""

    model: str
    """A model reference, run in this process; with endpoint the name that the endpoint knows it by."""
    endpoint: str | None = None
    """Of an OpenAI-compatible server."""
    api_key: str | None = None
    """Of the endpoint: env:NAME or file:PATH."""
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(max_tokens=512))
    """How verdicts are drawn."""
    price: PriceConfig = field(default_factory=PriceConfig)
    """For the estimate before the start and the cost of each verdict."""
    concurrency: PositiveInt = 16
    """Requests under way at once."""
    timeout_s: PositiveFloat = 120.0
    """How long one verdict may take."""
    max_attempts: PositiveInt = 3
    """How often it is asked for a verdict that can be read."""
    calibration: CalibrationConfig | None = None
    """How far it agrees with people; without it a gate on its scores is refused."""
    scale: tuple[int, int] = (1, 5)
    """Worst and best score; the metric is scaled to 0..1."""
    trust_remote_code: bool = False
    """Run Python that comes with the model."""


# --- other engines ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LmEvalConfig:
    """Tasks of EleutherAI's lm-evaluation-harness (extra lm-eval)."""

    tasks: list[str]
    """Names or files of tasks."""
    include_path: str | None = None
    """A folder with task files of your own."""
    num_fewshot: NonNegativeInt | None = None
    """By default what the task says."""
    limit: PositiveInt | None = None
    """Documents a task, at most."""
    batch_size: PositiveInt = 8
    """Of a model in this process, or requests at a time."""
    apply_chat_template: bool = False
    """Put prompts into the model's chat template."""
    tokenizer: str | None = None
    """A model reference: whose tokenizer an endpoint has; by default the endpoint is asked for it."""


IclTaskType = Literal[
    "language_modeling", "multiple_choice", "schema", "generation_task_with_answers", "question_answering"
]


@dataclass(frozen=True, kw_only=True)
class IclTaskConfig:
    """A task of in-context learning, as llm-foundry writes it."""

    label: str
    """In results, and in gates: LABEL.accuracy."""
    dataset_uri: str
    """JSONL: a path, s3://..., hf:DATASET."""
    icl_task_type: IclTaskType
    """Which columns there are and what is asked."""
    num_fewshot: list[NonNegativeInt] = field(default_factory=lambda: [0])
    """Each one is a task of its own: LABEL/2-shot."""
    metric_names: list[str] | None = None
    """By default what belongs to the kind; names of llm-foundry's classes are understood."""
    prompt_string: str = ""
    """Put before everything."""
    example_delimiter: str = "\n"
    """Between examples."""
    continuation_delimiter: str = " "
    """Between context and continuation."""
    question_prelimiter: str = ""
    """Before every question."""
    has_categories: bool = False
    """A column `category` divides it into tasks: LABEL/CATEGORY."""
    cot_delimiter: str = ""
    """generation: what stands between reasoning and the answer proper."""
    early_stopping_criteria: list[str] = field(default_factory=list)
    """generation: texts that end an answer."""
    do_normalization: bool = True
    """generation: case, punctuation and articles make no difference."""
    max_new_tokens: PositiveInt = 128
    """generation: length of an answer."""
    batch_size: PositiveInt | None = None
    """By default the target's."""
    fewshot_random_seed: int = 1234
    """Which examples are shown."""
    limit: PositiveInt | None = None
    """Ask at most this many rows of each part, chosen by the job's seed; examples are shown from all."""


@dataclass(frozen=True, kw_only=True)
class GauntletBenchmarkConfig:
    """A task in a category."""

    name: str
    """Its label."""
    num_fewshot: NonNegativeInt = 0
    """Which of its versions."""
    random_baseline: Share = 0.0
    """What guessing reaches."""


@dataclass(frozen=True, kw_only=True)
class GauntletCategoryConfig:
    """Tasks that measure one ability."""

    name: str
    """Of the ability."""
    benchmarks: list[GauntletBenchmarkConfig]
    """Its tasks."""


@dataclass(frozen=True, kw_only=True)
class GauntletConfig:
    """Averages over tasks, as in llm-foundry's evaluation gauntlet."""

    weighting: Literal["EQUAL", "SAMPLE_SZ", "LOG_SAMPLE_SZ"] = "EQUAL"
    """How much a task counts in its category."""
    subtract_random_baseline: bool = True
    """0 is what guessing reaches."""
    rescale_accuracy: bool = True
    """1 stays perfect."""
    destination_dir: str | None = None
    """Ignored: data comes from where dataset_uri says."""
    averages: dict[str, list[str]] = field(default_factory=dict)
    """Name of an average: its categories; by default `default_average` over all."""
    categories: list[GauntletCategoryConfig]
    """The abilities."""


# --- the job ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StatisticsConfig:
    """How sure one can be."""

    confidence: Share = 0.95
    """Of intervals."""
    num_resamples: PositiveInt = 10_000
    """Of bootstrap and permutation."""
    alpha: Share = 0.05
    """A difference is significant when chance alone brings such a one less often."""
    correction: Literal["holm", "benjamini_hochberg", "none"] = "holm"
    """Of p-values, because many comparisons find something by chance."""
    power: Share = 0.8
    """For the hint how many examples are needed."""


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """A whole evaluation."""

    target: TargetConfig | str | None = None
    """What is measured; a text is a model reference."""
    targets: dict[str, TargetConfig | str] = field(default_factory=dict)
    """Several, side by side; every gate must hold for each."""
    baseline: TargetConfig | str | None = None
    """What it is compared with: another target, a model reference, or runs:RUN of an earlier `genai eval`."""
    datasets: list[DatasetConfig] = field(default_factory=list)
    """Examples with what is right."""
    metrics: list[str | MetricConfig] = field(default_factory=list)
    """What is measured on them; by default what belongs to the kind of the data set."""
    judges: dict[str, JudgeConfig] = field(default_factory=dict)
    """Models that score answers."""
    gates: list[str] = field(default_factory=list)
    """Conditions; if one does not hold, the exit code is 3: "faq.token_f1 >= 0.30", "faq.token_f1 >= baseline - 0.02",
    "faq.token_f1 not significantly worse", "faq.latency_s <= 2", "cost_usd <= 1"."""
    lm_eval: LmEvalConfig | None = None
    """Tasks of lm-eval."""
    icl_tasks: list[IclTaskConfig] | str = field(default_factory=list)
    """Tasks of in-context learning, as in llm-foundry; or the file that has them."""
    eval_gauntlet: GauntletConfig | str | None = None
    """Averages over them; or the file that has it."""
    contamination: ContaminationConfig | None = None
    """Looks for examples that were in the training data."""
    statistics: StatisticsConfig = field(default_factory=StatisticsConfig)
    """How sure one can be."""
    max_usd: PositiveFloat | None = None
    """The job does not start when it is estimated to cost more, and stops when it does."""
    max_failures: Share = 0.05
    """When a larger share of examples got no answer, the job fails (exit code 1)."""
    junit: str | None = None
    """A file for JUnit XML, one test a gate."""
    seed: int = 17
    """Of everything that is drawn."""
    num_threads: PositiveInt | None = None
    """Of torch; by default all cores."""
    run_name: str | None = None
    """Of the run directory."""
    runs_dir: str = "runs"
    """Where run directories lie."""
    variables: dict[str, Any] = field(default_factory=dict)
    """Values to refer to elsewhere as ${variables.NAME}."""
