"""What follows training, over a real index and a real registry; the tuned model is a table of words' vectors."""

from __future__ import annotations

import json
import logging
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from index_jobs import QUERIES, ROWS, make_word_model, write_job, write_table

from genai.config.embed_finetune import EmbedFinetuneConfig
from genai.config.embedding import EmbeddingConfig
from genai.config.index import IndexConfig
from genai.config.loading import Loaded, load
from genai.data.retrieval.records import HeldOutQuery, Passage, RetrievalData
from genai.embedding.opening import open_encoder
from genai.embedding.tuning.measuring import measure
from genai.errors import ConfigError, GenaiError
from genai.jobs import embed_finetune_then, index, index_swap
from genai.jobs.embed_finetune_result import Promotion
from genai.jobs.embed_finetune_then import check_then, follow_up
from genai.jobs.index_parts import open_ledger
from genai.jobs.passage_neighbours import passage_neighbours
from genai.jobs.problems import Problems
from genai.models.references import resolve_model
from genai.report.contents import MetricChange
from genai.tracking import registry
from genai.tracking.run import RunDirectory

RECORD = {"model_fingerprint": "sha256:base"}
ALL = {"promote_if": "recall@10 > baseline", "register": "faq", "reindex": "rooms.yaml", "tolerance": 0.5}


def change(metric: str = "recall@10", *, before: float = 0.5, after: float = 0.75, low: float = 0.1) -> MetricChange:
    return MetricChange(
        metric=metric,
        before=before,
        before_low=before,
        before_high=before,
        after=after,
        after_low=after,
        after_high=after,
        difference=after - before,
        low=low,
        high=0.4,
    )


def make_data(prefix: str = "") -> RetrievalData:
    """The rooms as a corpus; the second one is two passages of a document."""
    passages = [Passage(key=f"{prefix}{row['id']}", text=row["text"], document=f"{prefix}{row['id']}") for row in ROWS]
    passages[1:2] = [
        replace(passages[1], key=f"{prefix}2#0", text="a parquet of oak"),
        replace(passages[1], key=f"{prefix}2#1", text="is sanded before it is oiled"),
    ]
    queries = []
    for query in QUERIES:
        named = query["relevant"]
        grades = dict(named) if isinstance(named, dict) else dict.fromkeys(named, 1.0)
        if "2" in grades:
            grades = {"2#0": 1.0, "2#1": 1.0}
        queries.append(HeldOutQuery(query=query["query"], relevant={f"{prefix}{key}": g for key, g in grades.items()}))
    return RetrievalData(
        passages=tuple(passages),
        train=(),
        validation=(),
        test=tuple(queries),
        tables={"delta:faq": {"version": 3}},
        fingerprint="sha256:data",
    )


class Place:
    """A folder with a table, the job file of an index over it, and a finished training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = RunDirectory.open(folder / "runs", "tuned")
        self.changes: tuple[MetricChange, ...] = (change(), change("ndcg@10"))
        self.data = make_data()

    def job(self, **then: Any) -> Loaded[EmbedFinetuneConfig]:
        config = {
            "model": {"name": "sentence_encoder", "pretrained_model_name_or_path": "./model"},
            "data": {"pairs": "pairs.jsonl"},
            "then": then,
        }
        path = self.folder / "tune.yaml"
        path.write_text(yaml.safe_dump(config))
        return load(path.relative_to(self.folder), EmbedFinetuneConfig)

    def follow(self, **then: Any) -> Promotion:
        return follow_up(
            self.job(**then), self.directory, self.changes, data=self.data, kind="sentence_encoder", record=RECORD
        )

    def build(self) -> None:
        index.run(load("rooms.yaml", IndexConfig))

    @property
    def answering(self) -> str | None:
        """The model that the index answers with; None where there is no index."""
        if not (self.folder / "indexes" / "rooms").is_dir():
            return None
        with open_ledger("rooms", "indexes") as ledger:
            live = ledger.live()
            assert live is not None
            return live.embedding_config.model

    @property
    def generations(self) -> list[str]:
        with open_ledger("rooms", "indexes") as ledger:
            return [generation.embedding_config.model for generation in ledger.generations()]

    @property
    def registered(self) -> list[int]:
        return [version.version for version in registry.versions("runs", "faq")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    make_word_model(tmp_path / "model")
    write_table(tmp_path / "table")
    write_job(tmp_path / "rooms.yaml")
    make_word_model(tmp_path / "runs" / "tuned" / "model", seed=1)
    return Place(tmp_path)


# --- decided ----------------------------------------------------------------------------------------------------------


def test_without_a_condition_nothing_follows(place: Place) -> None:
    assert place.follow() == Promotion(promoted=None, reason="no condition was set")
    assert sorted(path.name for path in place.directory.path.iterdir()) == ["model"]


def test_earned(place: Place) -> None:
    place.build()
    promotion = place.follow(**ALL)
    assert promotion.promoted is True
    assert promotion.reason == "recall@10 0.750 > baseline 0.500 (+0.250, 95 % +0.100 to +0.400)"
    assert (promotion.registered, promotion.alias, promotion.index) == ("faq@1", "production", "rooms")
    assert promotion.index_metrics == {"recall@10": (1.0, 1.0), "ndcg@10": pytest.approx((1.0, 1.0), abs=0.2)}
    assert place.answering == "runs:tuned"
    version = registry.find("runs", "faq")
    assert (version.run, version.model, version.kind) == ("tuned", "runs:tuned", "sentence_encoder")
    assert (version.data_fingerprint, version.tables) == ("sha256:data", {"delta:faq": {"version": 3}})
    assert (version.tuned_from, version.inputs) == ("./model", RECORD)
    assert [(each["metric"], each["after"], each["low"]) for each in version.metrics] == [
        ("recall@10", 0.75, 0.1),
        ("ndcg@10", 0.75, 0.1),
    ]
    assert resolve_model("registry:faq@production").path == Path("runs/tuned/model")
    named = [open_encoder(EmbeddingConfig(model=reference)).fingerprint for reference in ("registry:faq", "runs:tuned")]
    assert named[0] == named[1]


def test_the_index_is_asked_for_documents(place: Place) -> None:
    place.build()
    place.follow(**ALL)
    lines = (place.directory.path / "reindex_queries.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"query": "how thick is the screed", "relevant": ["1"]},
        {"query": "oak parquet", "relevant": ["2"]},
        {"query": "slope of a gutter", "relevant": {"4": 2, "3": 1}},
        {"query": "invoice", "relevant": ["5"]},
    ]


@pytest.mark.parametrize(
    ("condition", "significant", "low", "reason"),
    [
        ("recall@10 > baseline + 0.3", True, 0.1, "is not > baseline"),
        ("recall@10 > baseline", True, -0.01, "not at the lower end of the interval"),
        ("recall@10 >= 0.8", False, 0.1, "recall@10 0.750 is not >= 0.8"),
    ],
)
def test_not_earned(place: Place, condition: str, significant: bool, low: float, reason: str) -> None:
    place.build()
    place.changes = (change(low=low),)
    promotion = place.follow(**{**ALL, "promote_if": condition, "significant": significant})
    assert promotion.promoted is False
    assert reason in promotion.reason
    assert promotion == Promotion(promoted=False, reason=promotion.reason)
    assert (place.answering, place.registered, place.generations) == ("./model", [], ["./model"])
    assert sorted(path.name for path in place.directory.path.iterdir()) == ["model"]


def test_an_interval_that_reaches_below_is_enough_where_significance_is_not_asked_for(place: Place) -> None:
    place.changes = (change(low=-0.01),)
    promotion = place.follow(promote_if="recall@10 > baseline", significant=False, register="faq")
    assert (promotion.promoted, promotion.registered, promotion.index) == (True, "faq@1", None)


def test_the_condition_names_what_was_not_measured(place: Place) -> None:
    place.changes = (change("ndcg@10"),)
    with pytest.raises(ConfigError, match=r"tune.yaml:\d+:\d+: .*'recall@10', which is not measured"):
        place.follow(promote_if="recall@10 > baseline")


# --- the index --------------------------------------------------------------------------------------------------------


def test_the_index_may_refuse(place: Place) -> None:
    """The measures of the run say yes; the vectors, of two numbers, find little in the index itself."""
    place.build()
    make_word_model(place.folder / "runs" / "poor" / "model", width=2)
    place.directory = RunDirectory(place.folder / "runs" / "poor")
    promotion = place.follow(**{**ALL, "tolerance": 0.0})
    assert promotion.promoted is False
    assert promotion.reason.startswith("recall@10 0.750 > baseline 0.500")
    assert "but index 'rooms' keeps its encoder: the new encoder is not good enough: ndcg@10 0.988 -> " in (
        promotion.reason
    )
    assert promotion.index_metrics is not None and promotion.index_metrics["ndcg@10"][0] == pytest.approx(
        0.988, abs=1e-3
    )
    assert (promotion.index, promotion.registered, promotion.alias) == (None, None, None)
    assert (place.answering, place.generations, place.registered) == ("./model", ["./model"], [])
    lenient = place.follow(**{**ALL, "tolerance": 1.0})
    assert (lenient.promoted, place.answering, place.registered) == (True, "runs:poor", [1])


def test_an_index_that_is_not_there_is_built_first(place: Place) -> None:
    write_job(place.folder / "rooms.yaml", sync={"mode": "continuous"})
    promotion = place.follow(**ALL)
    assert (promotion.promoted, promotion.index) == (True, "rooms")
    assert place.answering == "runs:tuned"
    assert place.generations == ["./model", "runs:tuned"]
    assert promotion.index_metrics is not None and promotion.index_metrics["recall@10"] == (1.0, 1.0)


def test_an_index_with_runs_of_its_own_is_given_the_folder(place: Place) -> None:
    write_job(place.folder / "rooms.yaml", runs_dir="elsewhere")
    place.build()
    assert place.follow(**ALL).promoted is True
    assert place.answering == str(place.folder / "runs" / "tuned" / "model")


def test_settings_that_belong_to_the_index_stay(place: Place) -> None:
    embedding = {"model": "./model", "dimension": 64, "batch_size": 7, "normalize": False, "query_prompt": "q "}
    write_job(place.folder / "rooms.yaml", embedding=embedding)
    place.build()
    assert place.follow(**ALL).promoted is True
    with open_ledger("rooms", "indexes") as ledger:
        live = ledger.live()
    assert live is not None
    new = live.embedding_config
    assert (new.model, new.dimension, new.batch_size, new.normalize) == ("runs:tuned", 64, 7, False)
    assert new.query_prompt is None


def test_an_index_that_knows_none_of_the_documents(place: Place) -> None:
    place.build()
    place.data = make_data("faq-")
    with pytest.raises(ConfigError, match="has none of the documents that queries are measured with") as caught:
        place.follow(**ALL)
    assert "it calls one '1', the data of this job 'faq-" in caught.value.message
    assert (place.answering, place.registered) == ("./model", [])


# --- again, and after a kill ------------------------------------------------------------------------------------------


def test_again_changes_nothing(place: Place) -> None:
    place.build()
    promotion = place.follow(**ALL)
    assert place.follow(**ALL) == promotion
    assert (place.registered, len(registry.alias_history("runs", "faq"))) == ([1], 1)
    assert place.generations == ["./model", "runs:tuned"]


def test_what_was_moved_on_since_stays(place: Place) -> None:
    place.build()
    promotion = place.follow(**ALL)
    first = place.directory
    make_word_model(place.folder / "runs" / "later" / "model", seed=2)
    place.directory = RunDirectory(place.folder / "runs" / "later")
    assert place.follow(**ALL).registered == "faq@2"
    place.directory = first
    assert place.follow(**ALL) == promotion
    assert (place.answering, registry.find("runs", "faq").version) == ("runs:later", 2)


def test_another_wish_is_carried_out(place: Place) -> None:
    assert place.follow(promote_if="recall@10 > baseline", register="faq").alias == "production"
    promotion = place.follow(promote_if="recall@10 > baseline", register="faq", alias="canary")
    assert (promotion.registered, promotion.alias) == ("faq@1", "canary")
    assert registry.aliases("runs", "faq") == {"production": 1, "canary": 1}


class KilledError(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    ("owner", "name", "comes_after"),
    [
        (index, "run", False),
        (index, "run", True),
        (index_swap, "attempt", False),
        (index_swap, "attempt", True),
        (registry, "register", False),
        (registry, "register", True),
        (registry, "set_alias", False),
        (registry, "set_alias", True),
        (embed_finetune_then, "_register", True),
    ],
)
def test_killed_between_two_steps_the_same_command_finishes(
    place: Place, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, comes_after: bool
) -> None:
    step: Callable[..., Any] = getattr(owner, name)

    def killed(*values: Any, **named: Any) -> Any:
        if comes_after:
            step(*values, **named)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(KilledError):
            place.follow(**ALL)
    if owner in (index, index_swap):
        assert place.registered == []
    promotion = place.follow(**ALL)
    assert (promotion.promoted, promotion.registered, promotion.index) == (True, "faq@1", "rooms")
    assert (place.answering, place.registered) == ("runs:tuned", [1])
    assert [(each.alias, each.version) for each in registry.alias_history("runs", "faq")] == [("production", 1)]
    # Only who is killed before the figures of a swap that is done are noted takes them along.
    assert (promotion.index_metrics is None) == (name == "attempt" and comes_after)
    assert place.follow(**ALL) == promotion


def test_a_tuned_model_of_the_registry_is_noted_by_its_version(place: Place) -> None:
    place.follow(promote_if="recall@10 > baseline", register="faq")
    make_word_model(place.folder / "runs" / "later" / "model", seed=2)
    place.directory = RunDirectory(place.folder / "runs" / "later")
    loaded = place.job(promote_if="recall@10 > baseline", register="faq")
    model = replace(loaded.config.model, pretrained_model_name_or_path="registry:faq")
    loaded = replace(loaded, config=replace(loaded.config, model=model))
    follow_up(loaded, place.directory, place.changes, data=place.data, kind="sentence_encoder", record=RECORD)
    assert registry.find("runs", "faq").tuned_from == "registry:faq@1"


# --- int8 ONNX --------------------------------------------------------------------------------------------------------


@pytest.fixture
def exported(place: Place, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the exporter, and of what runs its file: the model itself, whose vectors lost all but two numbers."""
    from genai.embedding import onnx_export, opening

    config = place.directory.model / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "hidden_size": 256}))
    file = place.folder / "cached.onnx"
    file.write_bytes(b"int8")
    monkeypatch.setattr(onnx_export, "exported", lambda folder, **_: file)
    open_encoder = opening.open_encoder

    def open_rounded(config: Any, **named: Any) -> Any:
        assert config.backend == "onnx"
        return open_encoder(replace(config, backend="auto", dimension=2), **named)

    monkeypatch.setattr(opening, "open_encoder", open_rounded)
    return file


def test_onnx_alone_is_written_and_measured(place: Place, exported: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "genai"):
        promotion = place.follow(onnx=True)
    assert promotion.promoted is None
    assert promotion.onnx == str(place.directory.path / "onnx" / "model.onnx")
    assert Path(promotion.onnx).read_bytes() == b"int8"
    assert promotion.onnx_metrics is not None
    whole, rounded = promotion.onnx_metrics["ndcg@10"]
    assert whole == 0.75  # as it was measured before
    assert 0 < rounded < 1
    assert any(f"int8 ONNX: ndcg@10 {rounded:.3f}, in float 0.750" in line for line in caplog.messages)


@pytest.mark.integration
@pytest.mark.slow
def test_a_real_encoder_in_eight_bits(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random BERT: its int8 file finds nearly what it finds itself, and an index takes it as well."""
    monkeypatch.setenv("GENAI_CACHE", str(place.folder / "cache"))
    conftest = Path(__file__).parents[1] / "embedding" / "conftest.py"
    runpy.run_path(str(conftest))["make_bert"](place.folder / "runs" / "bert" / "model")
    place.directory = RunDirectory(place.folder / "runs" / "bert")
    encoder = open_encoder(EmbeddingConfig(model="runs:bert", precision="fp32"))
    metrics = ["recall@1", "ndcg@10"]
    found = measure(
        encoder, place.data.passages, place.data.test, metrics=metrics, neighbours_of=passage_neighbours()
    ).means
    place.changes = tuple(change(metric, after=found[metric]) for metric in metrics)
    promotion = place.follow(onnx=True, promote_if="ndcg@10 > 0", reindex="rooms.yaml", tolerance=1.0)
    assert promotion.promoted is True
    assert promotion.onnx is not None and Path(promotion.onnx).stat().st_size > 1000
    assert promotion.onnx_metrics is not None
    for metric in metrics:
        assert promotion.onnx_metrics[metric] == pytest.approx((found[metric], found[metric]), abs=0.26)
    assert place.answering == "runs:bert"


def test_onnx_is_not_made_of_what_was_not_earned(place: Place, exported: Path) -> None:
    promotion = place.follow(onnx=True, promote_if="recall@10 > 0.9")
    assert (promotion.promoted, promotion.onnx) == (False, None)
    assert not (place.directory.path / "onnx").exists()


def test_onnx_of_a_reranker(place: Place) -> None:
    with pytest.raises(ConfigError, match="made of sentence encoders only"):
        follow_up(
            place.job(onnx=True), place.directory, place.changes, data=place.data, kind="cross_encoder", record={}
        )


# --- before training --------------------------------------------------------------------------------------------------


def faults(place: Place, *, keys: Any = None, **then: Any) -> list[str]:
    loaded = place.job(**then)
    problems = Problems(loaded)
    check_then(loaded, problems, keys=keys)
    try:
        problems.raise_all()
    except ConfigError as error:
        return [problem.line() for problem in error.problems]
    return []


@pytest.mark.parametrize("built", [False, True])
def test_nothing_stands_in_the_way(place: Place, built: bool) -> None:
    if built:
        place.build()
    assert faults(place, keys=["x", "5"], **ALL) == []
    assert faults(place) == []
    assert place.answering == ("./model" if built else None)
    assert not (place.folder / "runs" / ".registry").exists()


@pytest.mark.parametrize("built", [False, True])
def test_keys_that_the_index_does_not_know_show_before_training(place: Place, built: bool) -> None:
    if built:
        place.build()
    [line] = faults(place, keys=["faq-1"], **ALL)
    assert line.startswith("tune.yaml:")
    assert "index 'rooms' has none of the documents that queries are measured with" in line
    assert "it calls one '1', the data of this job 'faq-1'" in line
    assert "source.primary_key" in line


def test_all_is_told_at_once(place: Place) -> None:
    write_job(place.folder / "rooms.yaml", source={"direct": True})
    found = faults(place, **{**ALL, "register": "a@b", "alias": "7"})
    keys = [line.strip().partition(":")[0] for line in (place.folder / "tune.yaml").read_text().splitlines()]
    assert [keys[int(line.split(":")[1]) - 1] for line in found] == ["register", "alias", "reindex"]
    assert "cannot be used as a name in the registry" in found[0]
    assert "cannot be used as a name of an alias" in found[1]
    assert "follows nothing it could be filled from" in found[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding": {"model": "./nothing"}}, "nothing"),
        ({"embedding": {"modell": "./model"}}, "did you mean 'model'?"),
        ({"source": {"table": "delta:nowhere", "primary_key": "id", "text": "text"}}, "there is no Delta table"),
    ],
)
def test_a_job_file_of_the_index_that_is_wrong(place: Place, changes: dict[str, Any], message: str) -> None:
    write_job(place.folder / "rooms.yaml", **changes)
    found = faults(place, keys=["1"], **ALL)
    assert found and found[0].startswith("tune.yaml:")
    assert message in found[0]


def test_settings_of_the_index_that_the_model_cannot_have(place: Place) -> None:
    make_word_model(place.folder / "wide", width=512)
    write_job(place.folder / "rooms.yaml", embedding={"model": "./wide", "dimension": 300})
    place.build()
    [line] = faults(place, keys=["1"], **ALL)
    assert line.startswith("tune.yaml:") and "embedding.dimension: ./model has vectors of 256 numbers" in line


def test_a_job_file_that_is_not_there(place: Place) -> None:
    [line] = faults(place, **{**ALL, "reindex": "room.yaml"})
    assert line.startswith("tune.yaml:") and "room.yaml" in line


def test_a_damaged_registry_shows_before_training(place: Place) -> None:
    place.follow(promote_if="recall@10 > baseline", register="faq")
    (place.folder / "runs" / ".registry" / "faq" / "versions" / "1.json").write_text("{")
    [line] = faults(place, promote_if="recall@10 > baseline", register="faq")
    assert "this file of the registry is damaged" in line
    with pytest.raises(GenaiError, match="is damaged"):
        resolve_model("registry:faq@1")


def test_an_onnx_file_needs_packages_and_an_encoder(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from genai.embedding import onnx_export

    monkeypatch.setattr(onnx_export, "_NEEDED", ("nowhere_to_be_found",))
    [line] = faults(place, onnx=True)
    assert "needs the package 'nowhere_to_be_found'" in line
