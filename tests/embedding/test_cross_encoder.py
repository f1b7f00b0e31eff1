import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genai.config.embedding import RerankerConfig
from genai.embedding.cross_encoder import CrossEncoder
from genai.embedding.opening import open_reranker
from genai.errors import DataError, UsageError

QUERY = "who signs the protocol"


@pytest.mark.parametrize("segments", [True, False])
def test_scores_against_transformers(
    fresh_bert: Callable[..., Path], texts: list[str], monkeypatch: pytest.MonkeyPatch, segments: bool
) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = fresh_bert(classifier=True, num_labels=1)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "TokenizersBackend"
    if segments:
        config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    monkeypatch.setattr("genai.embedding.torch_loading.dtype_for", lambda precision, where: torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    long = [*texts, "the screed is thick " * 30]
    expected = []
    for text in long:
        inputs = tokenizer([(QUERY, text)], truncation=True, max_length=48, return_tensors="pt")
        assert ("token_type_ids" in inputs) == segments
        with torch.no_grad():
            expected.append(torch.sigmoid(model(**inputs).logits.double()).item())
    scores = open_reranker(RerankerConfig(model=str(folder))).score(QUERY, long)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert len(set(np.round(scores, 6))) > 4


def test_pairs_of_several_queries_are_read_together(cross_encoder: Path, texts: list[str]) -> None:
    reranker = CrossEncoder(cross_encoder)
    pairs = reranker.tokens(QUERY, texts) + reranker.tokens("where", texts)
    assert [len(pair) for pair in pairs] == [len(pair.ids) for pair in pairs]
    expected = reranker.score(QUERY, texts) + reranker.score("where", texts)
    np.testing.assert_allclose(reranker.score_tokens(pairs), expected, atol=0.02)


def test_many_texts_and_none(cross_encoder: Path, texts: list[str]) -> None:
    reranker = open_reranker(RerankerConfig(model=str(cross_encoder)))
    assert reranker.score(QUERY, []) == []
    alone = [reranker.score(QUERY, [text])[0] for text in texts]
    together = reranker.score(QUERY, texts * 20)
    np.testing.assert_allclose(together, alone * 20, atol=0.05)  # bfloat16, where the processor has it


def test_a_model_of_classes_is_none(fresh_bert: Callable[..., Path]) -> None:
    folder = fresh_bert(classifier=True, num_labels=3)
    with pytest.raises(DataError, match="sorts texts into 3 classes, but a reranker gives one number"):
        open_reranker(RerankerConfig(model=str(folder))).score("a", ["b"])


def test_an_encoder_is_none(fresh_bert: Callable[..., Path]) -> None:
    folder = fresh_bert(num_labels=1)
    with pytest.raises(DataError, match=r"are missing .*would start random"):
        open_reranker(RerankerConfig(model=str(folder))).score("a", ["b"])


def test_a_head_without_its_pooler_is_not_trusted(fresh_bert: Callable[..., Path]) -> None:
    from safetensors.torch import load_file, save_file

    folder = fresh_bert(classifier=True, num_labels=1)
    tensors = {name: each for name, each in load_file(folder / "model.safetensors").items() if "pooler" not in name}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"2 weights are missing .*bert\.pooler\.dense\.bias.*would start random"):
        open_reranker(RerankerConfig(model=str(folder))).score("a", ["b"])


def test_logits_keep_the_order(cross_encoder: Path, texts: list[str]) -> None:
    reranker = CrossEncoder(cross_encoder)
    pairs = [(QUERY, text) for text in texts] + [("a", text) for text in texts]
    expected = [reranker.score(query, [text])[0] for query, text in pairs]
    np.testing.assert_allclose(1 / (1 + np.exp(-reranker.logits(pairs))), expected, atol=0.05)  # as above
    assert reranker.logits([]).shape == (0,)


def test_a_model_is_needed() -> None:
    with pytest.raises(UsageError, match=r"search\.reranker\.model: a cross-encoder needs a model"):
        open_reranker(RerankerConfig())
