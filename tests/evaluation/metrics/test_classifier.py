from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from genai.config.eval import MetricConfig
from genai.errors import DataError, UsageError
from genai.evaluation.metrics.registry import open_metric
from genai.evaluation.records import Answer, Chat, Example, Failure, Score, Unscored

pytestmark = pytest.mark.integration

TEXTS = [f"{word} {other}" for word in ("you", "they", "bees") for other in ("fool", "honey", "eat honey")]
EXAMPLE = Example(id="1", dataset="faq", kind="generation", question=Chat(prompt="Well?"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random classifier of two classes, as transformers saves it."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("classifier")
    words = ["[PAD]", "[UNK]", *sorted({word for text in TEXTS for word in text.split()})]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.8,
        id2label={0: "fine", 1: "toxic"},
        label2id={"fine": 0, "toxic": 1},
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def opened(folder: Path, **kwargs: Any) -> Any:
    config = MetricConfig(name="classifier", positive="toxic", kwargs={"model": str(folder), **kwargs})
    return open_metric(config, judges={}, kind="generation")


async def scores(metric: Any, outcomes: list[Any]) -> list[Score | Unscored]:
    return await asyncio.gather(*(metric.score(EXAMPLE, outcome) for outcome in outcomes))


def test_probabilities_are_those_of_the_model(folder: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        wanted = [float(model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0, 1]) for text in TEXTS]
    metric = opened(folder)
    found = asyncio.run(scores(metric, [Answer(text=text) for text in TEXTS]))
    values = [score.value for score in found if isinstance(score, Score)]
    assert values == pytest.approx(wanted, abs=1e-5)
    assert max(wanted) - min(wanted) > 0.1
    assert not metric.higher_is_better
    again = asyncio.run(scores(metric, [Answer(text=TEXTS[0]), Failure(reason="HTTP 500")]))
    assert isinstance(again[0], Score) and isinstance(again[1], Unscored)


def test_what_is_no_classifier_or_knows_no_such_class(folder: Path, tmp_path: Path) -> None:
    config = MetricConfig(name="classifier", positive="toxik", kwargs={"model": str(folder)})
    with pytest.raises(UsageError, match="did you mean 'toxic'"):
        open_metric(config, judges={}, kind="generation")
    with pytest.raises(UsageError, match="needs 'model'"):
        open_metric(MetricConfig(name="classifier", positive="toxic"), judges={}, kind="generation")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(DataError, match="does not say which classes it knows"):
        opened(tmp_path)


def test_damaged_weights_are_told(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match="cannot be loaded"):
        asyncio.run(scores(opened(tmp_path), [Answer(text="you fool")] * 3))
