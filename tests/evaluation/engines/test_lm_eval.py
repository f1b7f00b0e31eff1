"""lm-eval on SmolLM2 in this process: what it finds is what lm-eval finds by itself, document by document."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval_tasks import CHOICES, write_tasks

from genai.config.eval import LmEvalConfig, TargetConfig
from genai.errors import GenaiError, UsageError
from genai.evaluation.engines.lm_eval import LmEvalResult, check_target, run_lm_eval
from genai.evaluation.engines.lm_eval_scores import LmEvalTask
from genai.evaluation.records import Score
from genai.models.references import resolve_model

MODEL = "gallery:smollm2-135m-instruct"
FIGURE_TOLERANCE = 1e-9
"""Of a sum that is made from the same values in another order."""
MODEL_TOLERANCE = 1e-4
"""Of a figure of the same model in the same arithmetic, loaded by two programs."""


def figure(task: LmEvalTask, label: str) -> float:
    """What `measure` will find on all documents."""
    scores = [each.scores[label] for each in task.scored if label in each.scores]
    parts_NP = np.array([score.parts for score in scores if isinstance(score, Score)])
    return float(task.metrics[label].aggregate(parts_NP, np.ones((1, len(parts_NP))))[0])


class TestWithoutAModel:
    def test_a_target_that_is_no_model(self) -> None:
        with pytest.raises(UsageError, match="models and endpoints only"):
            check_target(TargetConfig(index="docs"))
        with pytest.raises(UsageError, match="name of the endpoint's model"):
            check_target(TargetConfig(endpoint="http://127.0.0.1:1"))
        with pytest.raises(UsageError, match="bf16 or fp32"):
            check_target(TargetConfig(model=MODEL, precision="int8"))


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
class TestInProcess:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_tasks(tmp_path_factory.mktemp("lm_eval") / "tasks")

    @pytest.fixture(scope="class")
    def found(self, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LmEvalResult:
        config = LmEvalConfig(tasks=["small", "rolling", str(folder / "going_on.yaml")], include_path=str(folder))
        target = TargetConfig(model=MODEL, precision="fp32")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("huggingface")))
            return run_lm_eval(config, target, name="base")

    @pytest.fixture(scope="class")
    def plain(self, folder: Path) -> Mapping[str, Any]:
        """lm-eval alone, with its own way to load a model."""
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        model = HFLM(pretrained=str(resolve_model(MODEL).path), dtype="float32", device="cpu", batch_size=1)
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        tasks: list[Any] = ["small", "rolling", "going_on"]
        result = lm_eval.simple_evaluate(model, tasks=tasks, task_manager=manager, bootstrap_iters=0)
        assert result is not None
        return dict(result)

    def test_all_tasks_are_there_with_those_of_a_group(self, found: LmEvalResult) -> None:
        assert [task.name for task in found.tasks] == ["choices", "next_word", "rolling", "going_on"]
        assert list(found.averages) == ["small.acc"]
        assert found.version

    def test_figures_are_those_of_lm_eval_itself(self, found: LmEvalResult, plain: Mapping[str, Any]) -> None:
        for task in found.tasks:
            row = {
                (metric if kind == "none" else f"{metric}/{kind}"): value
                for key, value in plain["results"][task.name].items()
                for metric, _, kind in [key.rpartition(",")]
                if metric and not metric.endswith("_stderr")
            }
            assert task.reported.keys() == row.keys() == {*task.metrics, *(each.metric for each in task.whole)}
            for label, value in row.items():
                assert task.reported[label] == pytest.approx(value, rel=MODEL_TOLERANCE), label
        assert found.averages["small.acc"] == pytest.approx(plain["groups"]["small"]["acc,none"])

    def test_parts_add_up_to_the_figures(self, found: LmEvalResult) -> None:
        for task in found.tasks:
            for label in task.metrics:
                assert figure(task, label) == pytest.approx(task.reported[label], rel=FIGURE_TOLERANCE), label

    def test_what_only_lm_eval_adds_up_has_an_interval(self, found: LmEvalResult) -> None:
        whole = {each.metric: each for each in found.tasks[-1].whole}
        assert set(whole) == {"bleu/whole", "bleu/first-word"}
        bleu = whole["bleu/whole"]
        assert bleu.low <= bleu.value <= bleu.high
        assert bleu.value == found.tasks[-1].reported["bleu/whole"]
        assert bleu.name == "going_on.bleu/whole"

    def test_every_document_is_an_example(self, found: LmEvalResult) -> None:
        choices, next_word, rolling, going_on = found.tasks
        assert [each.example.gold for each in choices.scored] == [row["label"] for row in CHOICES]
        assert len({each.example.id for each in choices.scored}) == len(CHOICES)
        first = choices.scored[0]
        assert first.example.question.pairs[1] == ("The capital of France is", " Paris")  # type: ignore[union-attr]
        assert len(first.outcome.each) == 3  # type: ignore[union-attr]
        assert rolling.scored[0].example.question.text.startswith("A gutter")  # type: ignore[union-attr]
        assert going_on.scored[0].example.references == ("Paris",)
        assert going_on.scored[0].outcome.text  # type: ignore[union-attr]
        assert next_word.metrics["perplexity"].higher_is_better is False
        assert rolling.metrics["word_perplexity"].higher_is_better is False

    def test_the_same_documents_have_the_same_hash(self, found: LmEvalResult, folder: Path) -> None:
        config = LmEvalConfig(tasks=["choices"], include_path=str(folder), limit=4)
        fewer = run_lm_eval(config, TargetConfig(model=MODEL, precision="fp32"), name="again").tasks[0]
        whole = found.tasks[0]
        assert len(fewer.scored) == 4
        assert fewer.sha256 != whole.sha256
        assert [each.example.id for each in fewer.scored] == [each.example.id for each in whole.scored[:4]]

    def test_a_task_that_is_not_there(self, folder: Path) -> None:
        config = LmEvalConfig(tasks=["hellaswagg"], include_path=str(folder))
        with pytest.raises(UsageError, match="knows no task 'hellaswagg'") as caught:
            run_lm_eval(config, TargetConfig(model=MODEL), name="base")
        assert caught.value.fix == "did you mean 'hellaswag'?"

    def test_python_of_a_task_file_runs_only_where_that_is_allowed(self, folder: Path) -> None:
        own = folder.parent / "own"
        own.mkdir()
        (own / "shouting.py").write_text("def shout(doc):\n    return doc['text'].upper()\n")
        text = (folder / "next_word.yaml").read_text()
        text = text.replace("doc_to_text: '{{text}}'", "doc_to_text: !function shouting.shout")
        (own / "loud.yaml").write_text(text.replace("task: next_word", "task: loud"))
        config = LmEvalConfig(tasks=[str(own / "loud.yaml")], limit=1)
        target = TargetConfig(model=MODEL, precision="fp32")
        with pytest.raises(UsageError, match="!function runs Python"):
            run_lm_eval(config, target, name="base")
        (task,) = run_lm_eval(config, target, name="base", allow_code=True).tasks
        assert task.scored[0].example.question.pairs[0][0] == "THE CAPITAL OF FRANCE IS"  # type: ignore[union-attr]

    def test_the_jinja_of_a_task_file_runs_in_a_sandbox(self, folder: Path) -> None:
        import lm_eval.utils

        before = lm_eval.utils.env
        own = folder.parent / "jinja.yaml"
        text = (folder / "next_word.yaml").read_text()
        own.write_text(text.replace("{{text}}", "{{ text.__class__.__mro__ }}").replace("task: next_word", "task: sly"))
        config = LmEvalConfig(tasks=[str(own)], limit=1)
        with pytest.raises(GenaiError, match="SecurityError: access to attribute '__class__'"):
            run_lm_eval(config, TargetConfig(model=MODEL, precision="fp32"), name="base")
        assert lm_eval.utils.env is before
