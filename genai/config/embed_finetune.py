"""The schema of `genai embed-finetune`: what a job file may say, with its defaults.

Every class is a frozen keyword-only dataclass; the text under a field is its documentation. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Discriminator

from genai.config.embedding import RerankerConfig
from genai.config.fields import (
    DurationText,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveDurationText,
    PositiveFloat,
    PositiveInt,
    Share,
)
from genai.config.index import ChunkingConfig
from genai.config.training import PeftConfig, TrainingJobConfig

# --- model ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SentenceEncoderConfig:
    """A model that turns a text into a vector: a sentence-transformers folder, or a plain transformer."""

    name: Literal["sentence_encoder"] = "sentence_encoder"
    """Which kind of model."""
    pretrained_model_name_or_path: str
    """A model reference: gallery:NAME, hf:ORG/NAME, a folder, s3://..., runs:RUN, registry:NAME@ALIAS."""
    revision: str | None = None
    """Branch, tag or commit on the Hugging Face hub."""
    trust_remote_code: bool = False
    """Run Python that comes with the model. Leave it off unless you have read that code."""
    peft_config: PeftConfig | None = None
    """Train an adapter instead of all weights; it is merged into the model that is written."""
    document_prompt: str | None = None
    """Put before every document, e.g. "passage: "; by default what the model's folder says. Written into the model."""
    query_prompt: str | None = None
    """Put before every query, e.g. "query: "; by default what the model's folder says. Written into the model."""
    pooling: Literal["mean", "cls", "last_token", "max"] | None = None
    """From token vectors to one; by default what the model's folder says, else mean."""
    max_tokens: PositiveInt | None = None
    """Longer texts are cut; by default what the model's folder says."""


@dataclass(frozen=True, kw_only=True)
class CrossEncoderConfig:
    """A reranker: a model that reads query and document together and gives one number."""

    name: Literal["cross_encoder"] = "cross_encoder"
    """Which kind of model."""
    pretrained_model_name_or_path: str
    """A model reference; an encoder without such a head gets a new one."""
    first_stage: str = "gallery:all-minilm-l6-v2"
    """The encoder whose first results it puts into order, and by which hard negatives are mined."""
    candidates: PositiveInt = 50
    """How many results of the first stage it puts into order when it is measured."""
    revision: str | None = None
    """Branch, tag or commit on the Hugging Face hub."""
    trust_remote_code: bool = False
    """Run Python that comes with the model. Leave it off unless you have read that code."""
    peft_config: PeftConfig | None = None
    """Train an adapter (and the head) instead of all weights; it is merged into the model that is written."""
    max_tokens: PositiveInt | None = None
    """Longer pairs are cut at the document's end; by default what the model's folder says."""


TunedModelConfig = Annotated[SentenceEncoderConfig | CrossEncoderConfig, Discriminator("name")]

# --- data -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Documents to find: what evaluation searches, and what negatives and synthetic queries are taken from."""

    path: str | list[str]
    """JSONL, Parquet or CSV, local or s3://; delta:URI[@VERSION]; gallery:NAME; or a folder of PDF, HTML, Markdown,
    DOCX and text files."""
    primary_key: str | None = None
    """Column that names a document; by default a column `id` where there is one, else the row's text itself. Of files
    it is their path."""
    text: str | list[str] = "text"
    """Column with the text; several are joined by an empty line."""
    title: str | None = None
    """Column with a title, for the method title_body; of files it is the heading above a chunk."""
    chunking: ChunkingConfig = field(default_factory=lambda: ChunkingConfig(name="none"))
    """How documents are cut into what is found; as in the index's own file."""


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """A language model that writes queries, or judges them."""

    model: str
    """A model reference, run in this process; with base_url the name that the endpoint knows it by."""
    base_url: str | None = None
    """Of an OpenAI-compatible endpoint or gateway route, e.g. http://127.0.0.1:8080/v1."""
    api_key: str | None = None
    """Of the endpoint: env:NAME or file:PATH."""
    max_new_tokens: PositiveInt = 48
    """Length of an answer."""
    temperature: NonNegativeFloat = 0.7
    """0 always takes the likeliest token."""
    top_p: Share = 0.95
    """Only the likeliest tokens that together have this share."""
    batch_size: PositiveInt = 32
    """Prompts a forward pass, or requests at a time."""
    timeout_s: PositiveFloat = 60.0
    """How long a request to the endpoint may take; it is repeated a few times with pauses."""
    usd_per_million_input_tokens: NonNegativeFloat = 0.0
    """Price, for the estimate before the start."""
    usd_per_million_output_tokens: NonNegativeFloat = 0.0
    """Price, for the estimate before the start."""


QueryStyle = Literal["question", "keywords", "terse", "misspelt"]


@dataclass(frozen=True, kw_only=True)
class SyntheticQueriesConfig:
    """Queries made from the corpus, where there are none, or too few."""

    generator: GeneratorConfig | None = None
    """Writes the queries; null takes the methods that need no model."""
    methods: list[Literal["inverse_cloze", "title_body"]] = field(default_factory=lambda: ["inverse_cloze"])
    """Without a generator. inverse_cloze: a sentence is the query, the rest of its passage the document (Lee et al.
    2019); title_body: the title is the query."""
    queries_per_chunk: PositiveInt = 2
    """How many are made of a passage, the styles in turn."""
    styles: list[QueryStyle] = field(default_factory=lambda: ["question", "keywords"])
    """question: a whole question; keywords: as typed into a search box; terse: two or three words; misspelt: a question
    with slips of the keyboard."""
    max_chunks: PositiveInt | None = None
    """Take at most this many passages, chosen by the seed."""
    round_trip_k: PositiveInt = 10
    """A query is kept when the model to be tuned finds its passage among the first k of the corpus."""
    min_yield: Share = 0.2
    """The job stops when a smaller share of the queries is kept."""
    judge: GeneratorConfig | None = None
    """Asked of every query that is left whether its passage answers it; a query that it denies is dropped."""
    max_usd: NonNegativeFloat | None = None
    """The job does not start when the estimate is above it."""


@dataclass(frozen=True, kw_only=True)
class RetrievalSplitConfig:
    """Hold back documents with all their queries; which ones depends on their content only, not on their order."""

    validation: Share = 0.1
    """Share of the documents whose queries are evaluated during training and by `search`."""
    test: Share = 0.2
    """Share of the documents whose queries tell how good the model is before and after."""
    group_by: str | list[str] | None = None
    """Columns of the pairs whose equal values stay on the same side, e.g. the file that a pair is from."""
    near_duplicates: Share = 0.8
    """Training pairs whose query or document resembles a held-out one at least as much (Jaccard of character 5-grams)
    are removed; 1 removes only equal ones."""
    seed: int = 17
    """Another seed, another split."""


@dataclass(frozen=True, kw_only=True)
class RetrievalChecksConfig:
    """Thresholds on the data; one that is not met stops the job with exit code 3 before training."""

    max_bad_rows: Share = 0.0
    """Share of rows that cannot be read; the others are trained on, each bad one is named."""
    max_cut_documents: Share = 1.0
    """Share of documents that are longer than the model reads."""
    max_near_duplicates: Share = 0.5
    """Share of training pairs that resemble held-out ones, and are removed."""
    min_pairs: PositiveInt = 8
    """Pairs that must be left for training."""
    min_queries: PositiveInt = 10
    """Held-out test queries that must be left."""


@dataclass(frozen=True, kw_only=True)
class RetrievalDataConfig:
    """Queries, what answers them, and everything else that can be found."""

    pairs: str | list[str] | None = None
    """Rows of a query and what answers it: JSONL, Parquet or CSV, local or s3://; delta:URI[@VERSION]; hf:DATASET;
    gallery:NAME. Columns: query, positive, and where there are any negative (a text or a list of texts), score (a
    grade of the pair), id (names the document), group."""
    columns: dict[str, str] = field(default_factory=dict)
    """What is expected -> what your file calls it, e.g. {query: q, positive: a}."""
    max_pairs: PositiveInt | None = None
    """Take at most this many rows of pairs."""
    corpus: CorpusConfig | None = None
    """All documents, also those without a query; by default those of the pairs."""
    synthetic_queries: SyntheticQueriesConfig | None = None
    """Make queries from the corpus."""
    split: RetrievalSplitConfig = field(default_factory=RetrievalSplitConfig)
    """What is held back."""
    checks: RetrievalChecksConfig = field(default_factory=RetrievalChecksConfig)
    """Thresholds that stop the job."""


# --- negatives, losses ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HardNegativesConfig:
    """Documents that the current model takes for good answers and that are none."""

    num_negatives: PositiveInt = 4
    """Of each query."""
    candidates: PositiveInt = 50
    """How many of the nearest documents are looked at."""
    skip: NonNegativeInt = 0
    """How many of the nearest are passed over: the very first are answers more often than others."""
    exclude_above: Share | None = 0.95
    """A candidate that scores above this share of the positive's score is taken for another answer and left out
    (relative margin; de Souza et al. 2024)."""
    margin: NonNegativeFloat | None = None
    """A candidate must score at least so much less than the positive."""
    sampling: Literal["top", "random"] = "top"
    """Which of the candidates that are left: the hardest, or any."""
    reranker: RerankerConfig | None = None
    """A cross-encoder whose scores, not the model's, decide on exclude_above and margin."""
    refresh: DurationText | None = None
    """Mine again with the model as it is by then, so often, e.g. 100ba."""


@dataclass(frozen=True, kw_only=True)
class MultipleNegativesConfig:
    """InfoNCE over the batch: a query's own document against all others (Henderson et al. 2017)."""

    name: Literal["multiple_negatives_ranking"] = "multiple_negatives_ranking"
    """Which loss."""
    scale: PositiveFloat = 20.0
    """Cosines are multiplied by it, the inverse of a temperature."""
    symmetric: bool = False
    """Also ask for the query of each document."""
    guide: str | None = None
    """GISTEmbed (Solatorio 2024): a model reference; documents that this encoder finds closer to a query than its own
    one are left out of the denominator."""
    guide_margin: float = 0.0
    """How much farther than its own one a document may be and is left out all the same."""


@dataclass(frozen=True, kw_only=True)
class MarginMSEConfig:
    """The differences between the scores of positive and negatives shall be those of a teacher (Hofstätter et al.
    2020).
    """

    name: Literal["margin_mse"] = "margin_mse"
    """Which loss."""
    teacher: str | None = None
    """A cross-encoder or encoder reference that scores; by default the column score."""
    teacher_kind: Literal["cross_encoder", "sentence_encoder"] = "cross_encoder"
    """What the teacher is."""
    scale: PositiveFloat = 1.0
    """The student's cosines are multiplied by it."""


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """The student's distribution over positive and negatives shall be the teacher's (Kullback-Leibler)."""

    name: Literal["distillation"] = "distillation"
    """Which loss."""
    teacher: str
    """A cross-encoder or encoder reference that scores."""
    teacher_kind: Literal["cross_encoder", "sentence_encoder"] = "sentence_encoder"
    """What the teacher is."""
    scale: PositiveFloat = 20.0
    """The student's cosines are multiplied by it."""
    teacher_scale: PositiveFloat = 20.0
    """The teacher's scores are multiplied by it: 1 for a cross-encoder's logits."""


@dataclass(frozen=True, kw_only=True)
class CoSENTConfig:
    """For graded pairs: pairs with higher grades shall have higher cosines (Su 2022)."""

    name: Literal["cosent"] = "cosent"
    """Which loss."""
    scale: PositiveFloat = 20.0
    """Cosines are multiplied by it."""


@dataclass(frozen=True, kw_only=True)
class BinaryCrossEntropyConfig:
    """For cross-encoders: yes for a positive, no for a negative, each by itself."""

    name: Literal["binary_cross_entropy"] = "binary_cross_entropy"
    """Which loss."""
    positive_weight: PositiveFloat = 1.0
    """How much more a positive counts than a negative."""


@dataclass(frozen=True, kw_only=True)
class ListwiseConfig:
    """For cross-encoders: softmax over a positive and its negatives."""

    name: Literal["listwise"] = "listwise"
    """Which loss."""


RetrievalLossConfig = Annotated[
    MultipleNegativesConfig
    | MarginMSEConfig
    | DistillationConfig
    | CoSENTConfig
    | BinaryCrossEntropyConfig
    | ListwiseConfig,
    Discriminator("name"),
]


@dataclass(frozen=True, kw_only=True)
class MatryoshkaConfig:
    """Vectors that can be cut short: the loss is the sum over several lengths (Kusupati et al. 2022)."""

    dimensions: list[PositiveInt]
    """Lengths, e.g. [384, 192, 96]; the whole one is always among them."""
    weights: list[NonNegativeFloat] | None = None
    """Of each length; by default 1."""


# --- evaluation, what follows -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RetrievalEvaluationConfig:
    """How good the model is at finding, before and after, over the whole corpus."""

    queries: str | None = None
    """Labelled queries in place of held-out pairs, one JSON object a line: {"query": ..., "relevant": [KEY, ...]}."""
    metrics: list[str] = field(default_factory=lambda: ["recall@1", "recall@10", "ndcg@10", "mrr@10", "map@100"])
    """recall@K, precision@K, hit_rate@K, mrr@K, map@K, ndcg@K."""
    general: str | None = None
    """Pairs of other subjects (columns query and positive) to measure what is forgotten."""
    num_examples: NonNegativeInt = 5
    """Queries won and lost that the report shows."""


@dataclass(frozen=True, kw_only=True)
class ThenConfig:
    """What happens when the model is better."""

    promote_if: str | None = None
    """The condition, e.g. "recall@10 > baseline", "ndcg@10 >= baseline - 0.01", "recall@1 >= 0.6"; baseline is the
    model before. One that is not met keeps the model, does nothing of what follows, and ends with exit code 3."""
    significant: bool = True
    """A comparison with baseline must also hold for the lower end of the 95 % interval of the difference."""
    register: str | None = None
    """Name in the registry under which the model becomes the next version."""
    alias: str = "production"
    """Alias in the registry that then names this version."""
    reindex: str | None = None
    """Job file of an index: it is embedded anew with the model and swapped under its own gate."""
    tolerance: NonNegativeFloat = 0.02
    """Of that gate: how much worse recall@10 and ndcg@10 of the index may be, at the lower end of the interval."""
    onnx: bool = False
    """Also write an int8 ONNX file, and measure what it loses."""


@dataclass(frozen=True, kw_only=True)
class HyperSearchConfig:
    """Try several settings by successive halving on the validation queries (Jamieson and Talwalkar 2016).

    Every trial is a run of its own, with its own job file, below runs_dir.
    """

    space: dict[str, list[Any]]
    """Key of this file -> values to try, e.g. {optimizer.lr: [1e-5, 5e-5, 1e-4], max_duration: [1ep, 2ep]}."""
    num_trials: PositiveInt = 8
    """How many settings begin; all of them where the space has no more, else as many drawn by the seed."""
    keep: Share = 0.5
    """Share of the trials that goes on to the next round, which trains longer."""
    shortest: Share = 0.25
    """Share of max_duration that the first round trains."""
    metric: str = "ndcg@10"
    """Of the validation queries: what the best is best at."""
    budget_minutes: PositiveFloat = 20.0
    """No trial begins that would not end by then; what is best until then has won."""


@dataclass(frozen=True, kw_only=True)
class RetrievalProofsConfig:
    """Checks before step 1; false turns one off."""

    labels: bool = True
    """Show queries with their positive, negatives and scores, and the batch where negatives outscore positives most."""
    gradient: bool = True
    """The gradient of a batch does not depend on how it is cut."""
    export: bool = True
    """The model can be saved and read back with the same vectors, and the disk holds what is to come."""


# --- the job ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EmbedFinetuneConfig(TrainingJobConfig):
    """`genai embed-finetune`: tune an embedding model or a reranker, and prove that retrieval got better."""

    model: TunedModelConfig
    """What is tuned."""
    data: RetrievalDataConfig
    """What it learns from."""
    hard_negatives: HardNegativesConfig | None = None
    """Mine negatives; without it a batch's other documents are all there are (and those of the pairs)."""
    loss: RetrievalLossConfig = field(default_factory=MultipleNegativesConfig)
    """What is minimised."""
    matryoshka: MatryoshkaConfig | None = None
    """Train shorter vectors too."""
    evaluation: RetrievalEvaluationConfig = field(default_factory=RetrievalEvaluationConfig)
    """Before and after."""
    then: ThenConfig = field(default_factory=ThenConfig)
    """What happens when the model is better."""
    search: HyperSearchConfig | None = None
    """Find settings first."""
    proofs: RetrievalProofsConfig = field(default_factory=RetrievalProofsConfig)
    """Checks before step 1."""
    max_duration: PositiveDurationText = "1ep"
    """How long to train."""
    global_train_batch_size: PositiveInt = 32
    """Queries an optimizer step, over all devices; with losses over the batch a larger one is harder."""
    device_train_microbatch_size: Literal["auto"] | PositiveInt = "auto"
    """Queries a forward pass. Fewer than the batch: vectors are computed twice, and the gradient of the whole batch's
    loss is the same (cached; Gao et al. 2021). auto: up to 128 at once."""
