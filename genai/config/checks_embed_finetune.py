"""What in an embed-finetune job contradicts itself or has no effect, as far as the job file alone tells."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from genai.config.checks_search_space import check_search_space
from genai.config.checks_sections import check_chunking, check_peft, check_reranker, check_revision, idle
from genai.config.checks_training import TRAINING_CHECKS
from genai.config.durations import Duration
from genai.config.embed_finetune import (
    CorpusConfig,
    CoSENTConfig,
    CrossEncoderConfig,
    DistillationConfig,
    EmbedFinetuneConfig,
    GeneratorConfig,
    HardNegativesConfig,
    MarginMSEConfig,
    MatryoshkaConfig,
    MultipleNegativesConfig,
    RetrievalDataConfig,
    RetrievalEvaluationConfig,
    RetrievalSplitConfig,
    SyntheticQueriesConfig,
    ThenConfig,
)
from genai.config.embedding import RerankerConfig
from genai.config.findings import Finding, fault, no_effect
from genai.config.gates import parse_gate
from genai.errors import UsageError
from genai.registry import suggest

COLUMNS = ("query", "positive", "negative", "score", "id", "group")
"""Columns of the pairs, which `data.columns` may rename."""
MEASURES = ("recall", "precision", "hit_rate", "mrr", "map", "ndcg")
"""Measures of retrieval; each is followed by @K."""
_METRIC = re.compile(rf"(?:{'|'.join(MEASURES)})@[1-9][0-9]*")
_LOSSES = {
    "sentence_encoder": ("multiple_negatives_ranking", "margin_mse", "distillation", "cosent"),
    "cross_encoder": ("binary_cross_entropy", "listwise", "margin_mse"),
}
"""Kind of model -> the losses it can be trained with."""
_NEED_NEGATIVES = ("margin_mse", "distillation", "binary_cross_entropy", "listwise")


def check_embed_finetune(config: EmbedFinetuneConfig) -> list[Finding]:
    """Faults that no single field shows, and settings without an effect."""
    found = _check_alone(config)
    if not any(not each.is_warning for each in found):
        found += check_search_space(config, _check_alone)
    return found


def _check_alone(config: EmbedFinetuneConfig) -> list[Finding]:
    """All but what `search` tries."""
    return [finding for check in _CHECKS for finding in check(config)]


# --- model, loss ------------------------------------------------------------------------------------------------------


def _model(config: EmbedFinetuneConfig) -> Iterator[Finding]:
    model = config.model
    yield from check_revision(model.pretrained_model_name_or_path, model.revision)
    if model.peft_config is not None:
        yield from check_peft(model.peft_config)


def _loss(config: EmbedFinetuneConfig) -> Iterator[Finding]:
    loss, kind = config.loss, config.model.name
    known = _LOSSES[kind]
    if loss.name not in known:
        yield fault("loss", f"the loss {loss.name} is not for a {kind}", f"write loss: {{name: {known[0]}}}")
        return
    if isinstance(loss, MultipleNegativesConfig) and loss.guide is None:
        yield from idle(loss, MultipleNegativesConfig(), "loss", ("guide_margin",), "there is no guide")
    if isinstance(loss, CoSENTConfig):
        yield from _graded(config)
    if isinstance(loss, MarginMSEConfig) and loss.teacher is None:
        yield from idle(loss, MarginMSEConfig(), "loss", ("teacher_kind",), "there is no teacher")
        yield from _without_teacher(config)
    if isinstance(loss, MarginMSEConfig | DistillationConfig) and loss.teacher == "":
        yield fault("loss.teacher", "loss.teacher is empty", "write a model reference")
    if loss.name in _NEED_NEGATIVES and config.hard_negatives is None and not config.data.pairs:
        message = f"the loss {loss.name} compares a positive with negatives, and queries that are made have none"
        yield fault("loss", message, "write hard_negatives: {}")


def _graded(config: EmbedFinetuneConfig) -> Iterator[Finding]:
    if config.hard_negatives is not None:
        message = "the loss cosent learns from grades of pairs, and mined negatives have none"
        yield fault("hard_negatives", message, "remove hard_negatives, or take another loss")
    if config.data.synthetic_queries is not None:
        message = "the loss cosent learns from grades of pairs, and queries that are made have none"
        yield fault("data.synthetic_queries", message, "remove synthetic_queries, or take another loss")


def _without_teacher(config: EmbedFinetuneConfig) -> Iterator[Finding]:
    fix = "write loss.teacher: a cross-encoder's reference"
    if config.hard_negatives is not None:
        message = "margin_mse without a teacher takes the column score, and mined negatives have none"
        yield fault("loss", message, fix)
    elif config.data.synthetic_queries is not None:
        message = "margin_mse without a teacher takes the column score, and queries that are made have none"
        yield fault("loss", message, fix)


def _matryoshka(config: EmbedFinetuneConfig) -> Iterator[Finding]:
    matryoshka = config.matryoshka
    if matryoshka is None:
        return
    if isinstance(config.model, CrossEncoderConfig):
        yield fault("matryoshka", "a cross_encoder gives one number, no vector to cut", "remove matryoshka")
        return
    yield from _lengths(matryoshka)


def _lengths(matryoshka: MatryoshkaConfig) -> Iterator[Finding]:
    dimensions, weights = matryoshka.dimensions, matryoshka.weights
    if not dimensions:
        yield fault("matryoshka.dimensions", "matryoshka.dimensions names no length", "write [384, 192, 96]")
    for dimension in sorted({each for each in dimensions if dimensions.count(each) > 1}):
        message = f"matryoshka.dimensions names {dimension} twice"
        yield fault("matryoshka.dimensions", message, "name each length once")
    if weights is not None and len(weights) != len(dimensions):
        message = f"matryoshka.weights has {len(weights)} numbers for {len(dimensions)} lengths"
        yield fault("matryoshka.weights", message, "write one for each of dimensions, or leave weights out")
    elif weights and not any(weights):
        yield fault("matryoshka.weights", "matryoshka.weights are all 0, so that nothing is learnt", "write 1 for each")


# --- data -------------------------------------------------------------------------------------------------------------


def _data(config: EmbedFinetuneConfig) -> Iterator[Finding]:
    data = config.data
    if not data.pairs and data.corpus is None:
        fix = "write pairs: FILE, or corpus: {path: FOLDER} with synthetic_queries: {}"
        yield fault("data", "data names neither pairs nor a corpus", fix)
    elif not data.pairs and data.synthetic_queries is None:
        message = "a corpus alone has no queries to learn from"
        yield fault("data.corpus", message, "write data.synthetic_queries: {}, or name pairs")
    if data.synthetic_queries is not None and data.corpus is None:
        message = "queries are made from a corpus, and there is none"
        yield fault("data.synthetic_queries", message, "write data.corpus: {path: FILE_OR_FOLDER}")
    if not data.pairs:
        yield from idle(data, RetrievalDataConfig(), "data", ("columns", "max_pairs"), "there are no pairs")
        yield from idle(data.split, RetrievalSplitConfig(), "data.split", ("group_by",), "there are no pairs")
    yield from _columns(data)
    if data.corpus is not None:
        yield from _corpus(data.corpus, config)
    if data.synthetic_queries is not None:
        yield from _synthetic(data.synthetic_queries)


def _columns(data: RetrievalDataConfig) -> Iterator[Finding]:
    for name, theirs in data.columns.items():
        if name not in COLUMNS:
            near = suggest(name, COLUMNS)
            fix = f"did you mean '{near}'?" if near else f"columns of pairs: {', '.join(COLUMNS)}"
            swapped = f"; it is written {{{theirs}: {name}}}" if theirs in COLUMNS else ""
            yield fault(f"data.columns.{name}", f"pairs have no column '{name}'{swapped}", fix)


def _corpus(corpus: CorpusConfig, config: EmbedFinetuneConfig) -> Iterator[Finding]:
    key, model = "data.corpus", config.model
    if corpus.path in ("", []):
        yield fault(f"{key}.path", f"{key}.path is empty", "name a file, a folder, or gallery:NAME")
    if corpus.text in ("", []):
        yield fault(f"{key}.text", f"{key}.text names no column", "name at least one column")
    longest = model.max_tokens
    yield from check_chunking(corpus.chunking, f"{key}.chunking", longest=longest, longest_key="model.max_tokens")
    synthetic = config.data.synthetic_queries
    needs_title = synthetic is not None and synthetic.generator is None and "title_body" in synthetic.methods
    if corpus.title is not None and not needs_title:
        yield no_effect(f"{key}.title", "only the method title_body of synthetic_queries asks for it")


def _synthetic(synthetic: SyntheticQueriesConfig) -> Iterator[Finding]:
    key, defaults = "data.synthetic_queries", SyntheticQueriesConfig()
    if synthetic.generator is None:
        yield from idle(synthetic, defaults, key, ("styles",), "without a generator the methods decide")
        if not synthetic.methods:
            yield fault(f"{key}.methods", f"{key} names neither a generator nor a method", "write [inverse_cloze]")
    else:
        yield from idle(synthetic, defaults, key, ("methods",), "the generator writes the queries")
        yield from _generator(synthetic.generator, f"{key}.generator")
        if not synthetic.styles:
            yield fault(f"{key}.styles", f"{key}.styles is empty", "write [question, keywords]")
    if synthetic.judge is not None:
        yield from _generator(synthetic.judge, f"{key}.judge")
    asked = [each for each in (synthetic.generator, synthetic.judge) if each is not None]
    if synthetic.max_usd is not None and not any(_costs(each) for each in asked):
        yield no_effect(f"{key}.max_usd", "no price is given, so that the estimate is 0")


def _generator(generator: GeneratorConfig, key: str) -> Iterator[Finding]:
    if generator.base_url is None:
        defaults = GeneratorConfig(model=generator.model)
        yield from idle(generator, defaults, key, ("api_key", "timeout_s"), "there is no base_url")
    elif not generator.base_url.startswith(("http://", "https://")):
        message = f"{key}.base_url '{generator.base_url}' is no address"
        yield fault(f"{key}.base_url", message, "write for example http://127.0.0.1:8080/v1")
    if generator.temperature == 0:
        defaults = GeneratorConfig(model=generator.model)
        yield from idle(generator, defaults, key, ("top_p",), "with temperature 0 the likeliest token is taken")


def _costs(generator: GeneratorConfig) -> bool:
    return bool(generator.usd_per_million_input_tokens or generator.usd_per_million_output_tokens)


def _split(config: EmbedFinetuneConfig) -> Iterator[Finding]:
    split, labelled = config.data.split, config.evaluation.queries is not None
    held_out = split.validation + (0 if labelled else split.test)
    if held_out >= 1:
        message = f"data.split holds back {held_out:g} of the documents, which leaves nothing to train on"
        yield fault("data.split", message, "write for example validation: 0.1 and test: 0.2")
    if split.test == 0 and not labelled:
        message = "data.split.test of 0 leaves no queries that tell whether the model is better"
        yield fault("data.split.test", message, "write test: 0.2, or name evaluation.queries")
    if labelled:
        yield from idle(split, RetrievalSplitConfig(), "data.split", ("test",), "evaluation.queries takes its place")
    if split.validation == 0:
        yield from _without_validation(config)


def _without_validation(config: EmbedFinetuneConfig) -> Iterator[Finding]:
    message, fix = "needs validation queries, and data.split.validation is 0", "write data.split.validation: 0.1"
    if config.search is not None:
        yield fault("search", f"search {message}", fix)
    if config.callbacks.early_stopping is not None:
        yield fault("callbacks.early_stopping", f"early stopping {message}", fix)
    default = EmbedFinetuneConfig(model=config.model, data=config.data)
    if config.eval_interval != default.eval_interval:
        yield no_effect("eval_interval", "data.split.validation is 0")


# --- negatives --------------------------------------------------------------------------------------------------------


def _negatives(config: EmbedFinetuneConfig) -> Iterator[Finding]:
    negatives, key = config.hard_negatives, "hard_negatives"
    if negatives is None:
        return
    if negatives.refresh is not None and isinstance(config.model, CrossEncoderConfig):
        yield no_effect(f"{key}.refresh", "a reranker's negatives are what first_stage finds, which does not change")
    elif negatives.refresh is not None and Duration.parse(negatives.refresh).value == 0:
        message = f"{key}.refresh of {negatives.refresh} would mine before every step"
        yield fault(f"{key}.refresh", message, "write 100ba, or leave it out to mine once")
    needed = negatives.skip + negatives.num_negatives
    if negatives.candidates < needed:
        message = f"{key}.candidates of {negatives.candidates} is less than skip and num_negatives together, {needed}"
        yield fault(f"{key}.candidates", message, f"write {max(50, 10 * needed)}")
    if negatives.exclude_above == 0:
        message = f"{key}.exclude_above of 0 leaves no candidate"
        yield fault(f"{key}.exclude_above", message, "write 0.95, or null to leave none out")
    if negatives.reranker is not None:
        yield from _judging(negatives.reranker, negatives)


def _judging(reranker: RerankerConfig, negatives: HardNegativesConfig) -> Iterator[Finding]:
    key = "hard_negatives.reranker"
    if reranker.name == "mmr":
        yield fault(f"{key}.name", "mmr gives no scores that tell an answer", "write cross_encoder or endpoint")
        return
    yield from check_reranker(reranker, key)
    why = "hard_negatives.candidates are looked at"
    yield from idle(reranker, RerankerConfig(), key, ("candidates",), why)
    yield from idle(reranker, RerankerConfig(), key, ("diversity",), "it belongs to mmr")
    if negatives.exclude_above is None and negatives.margin is None:
        yield no_effect(key, "neither exclude_above nor margin is set, which it would decide on")


# --- evaluation, what follows -----------------------------------------------------------------------------------------


def _evaluation(config: EmbedFinetuneConfig) -> Iterator[Finding]:
    evaluation = config.evaluation
    yield from _metrics(evaluation)
    same = {"data.pairs": config.data.pairs, "evaluation.queries": evaluation.queries}
    for key, path in same.items():
        if evaluation.general is not None and evaluation.general in _as_list(path):
            message = f"evaluation.general is the same as {key}, so that it tells nothing about what is forgotten"
            yield fault("evaluation.general", message, "name pairs of other subjects, or leave it out")
    if evaluation.queries is not None and evaluation.queries in _as_list(config.data.pairs):
        message = "evaluation.queries is the same file as data.pairs, which is trained on"
        yield fault("evaluation.queries", message, "leave it out: data.split holds queries back")
    search = config.search
    if search is not None and search.metric not in evaluation.metrics:
        fix = _nearest_metric(search.metric, evaluation.metrics)
        message = f"search.metric '{search.metric}' is not among evaluation.metrics"
        yield fault("search.metric", message, fix)


def _metrics(evaluation: RetrievalEvaluationConfig) -> Iterator[Finding]:
    key, metrics = "evaluation.metrics", evaluation.metrics
    if not metrics:
        yield fault(key, f"{key} names no measure", "write [recall@1, recall@10, ndcg@10]")
    for place, name in enumerate(metrics):
        if not _METRIC.fullmatch(name):
            near = suggest(name.partition("@")[0], MEASURES)
            known = ", ".join(f"{measure}@K" for measure in MEASURES)
            fix = f"did you mean '{near}@10'?" if near else f"known: {known}, with K such as 10"
            yield fault(f"{key}.{place}", f"'{name}' is no measure of retrieval", fix)
        elif name in metrics[:place]:
            yield fault(f"{key}.{place}", f"{key} names {name} twice", "name each measure once")


def _then(config: EmbedFinetuneConfig) -> Iterator[Finding]:
    then, defaults = config.then, ThenConfig()
    if then.promote_if is not None:
        yield from _condition(then.promote_if, config.evaluation)
    else:
        yield from _unconditional(then)
        yield from idle(then, defaults, "then", ("significant",), "there is no promote_if")
    if then.register is None:
        yield from idle(then, defaults, "then", ("alias",), "there is no register")
    if then.reindex is None:
        yield from idle(then, defaults, "then", ("tolerance",), "there is no reindex")
    elif not then.reindex.endswith((".yaml", ".yml")):
        message = f"then.reindex '{then.reindex}' is no job file"
        yield fault("then.reindex", message, "name the .yaml of an index, e.g. configs/index/faq.yaml")
    if isinstance(config.model, CrossEncoderConfig):
        for name, why in (("reindex", "an index holds vectors"), ("onnx", "only encoders are written as ONNX")):
            if getattr(then, name):
                message = f"then.{name} is not for a cross_encoder: {why}"
                yield fault(f"then.{name}", message, f"remove then.{name}")


def _condition(text: str, evaluation: RetrievalEvaluationConfig) -> Iterator[Finding]:
    try:
        parse_gate(text, known=evaluation.metrics)
    except UsageError as error:
        problem = error.problems[0]
        yield fault("then.promote_if", problem.message, problem.fix)


def _unconditional(then: ThenConfig) -> Iterator[Finding]:
    """What must not happen unless the model is better."""
    for name, what in (("register", "the registry would get"), ("reindex", "the index would be built with")):
        if getattr(then, name) is not None:
            message = f"then.{name} needs promote_if: {what} the model whether it is better or not"
            yield fault(f"then.{name}", message, 'write then.promote_if: "ndcg@10 > baseline"')


def _nearest_metric(name: str, metrics: list[str]) -> str:
    near = suggest(name, metrics)
    return f"did you mean '{near}'?" if near else f"it is one of {', '.join(metrics)}"


def _as_list(paths: str | list[str] | None) -> list[str]:
    return [paths] if isinstance(paths, str) else paths or []


_CHECKS: tuple[Callable[[EmbedFinetuneConfig], Iterator[Finding]], ...] = (
    _model,
    _data,
    _split,
    _loss,
    _matryoshka,
    _negatives,
    _evaluation,
    _then,
    *TRAINING_CHECKS,
)
