import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genai.config.embed_finetune import (
    BinaryCrossEntropyConfig,
    CrossEncoderConfig,
    ListwiseConfig,
    MarginMSEConfig,
    MultipleNegativesConfig,
)
from genai.config.training import PeftConfig
from genai.embedding.cross_encoder import CrossEncoder
from genai.embedding.tuning.interfaces import PairBatch
from genai.embedding.tuning.objectives.margin_mse import margin_losses
from genai.embedding.tuning.objectives.reranking import binary_cross_entropy, listwise
from genai.embedding.tuning.reranker import RerankerLoss, TrainableReranker, save_reranker
from genai.errors import DataError, UsageError

QUERIES = ["who signs", "how thick is the screed", "when does the site office open"]
BATCH = PairBatch(
    pairs=np.array([2, 0, 1]),
    passages=np.array([[4, 0], [1, 4], [0, 5]]),
    labels=np.array([[2.0, 1.0], [0.5, 0.0], [1.0, 1.0]], dtype=np.float32),
    rows_by_rank=(3,),
    num_tokens=1,
    num_examples=3,
)


@pytest.fixture(autouse=True)
def single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is compared with."""
    monkeypatch.setattr("genai.embedding.torch_loading.dtype_for", lambda precision, where: torch.float32)


def load(folder: Path, **changes: Any) -> TrainableReranker:
    """In training mode without dropout, unless it is asked for."""
    dropout, seed = changes.pop("dropout", False), changes.pop("seed", 17)
    precision = changes.pop("precision", "fp32")
    config = CrossEncoderConfig(pretrained_model_name_or_path=str(folder), **changes)
    model = TrainableReranker.load(folder, config, precision=precision, device="cpu", seed=seed)
    for module in model.modules():
        if not dropout and isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.train(dropout)


def drop_weights(folder: Path, part: str) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file({name: each for name, each in load_file(file).items() if part not in name}, file, {"format": "pt"})


def gather(rows: torch.Tensor, rows_by_rank: Sequence[int]) -> torch.Tensor:
    raise AssertionError("no row needs another rank's")


def gradients(model: TrainableReranker) -> dict[str, torch.Tensor]:
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("segments", [True, False])
def test_scores_are_those_of_the_folder(fresh_bert: Callable[..., Path], texts: list[str], segments: bool) -> None:
    folder = fresh_bert(classifier=True, num_labels=1)
    if segments:
        file = folder / "tokenizer_config.json"
        names = ["input_ids", "token_type_ids", "attention_mask"]
        file.write_text(json.dumps({**json.loads(file.read_text()), "model_input_names": names}))
    long = [*texts, "the screed is thick " * 30]
    expected = CrossEncoder(folder).score(QUERIES[0], long)
    model = load(folder)
    np.testing.assert_allclose(model.as_scorer().score(QUERIES[0], long), expected, atol=1e-5)
    assert model.as_scorer().score(QUERIES[0], []) == []
    logits = model(model.pairs([QUERIES[0]] * len(long), long))
    assert logits.dtype == torch.float32 and logits.requires_grad
    np.testing.assert_allclose(torch.sigmoid(logits).tolist(), expected, atol=1e-5)
    assert model([]).shape == (0,)


def test_bfloat16_products_over_float32_weights(cross_encoder: Path, texts: list[str]) -> None:
    exact, rounded = load(cross_encoder), load(cross_encoder, precision="amp_bf16")
    pairs = exact.pairs([QUERIES[1]] * len(texts), texts)
    found, expected = rounded(pairs), exact(pairs)
    assert found.dtype == torch.float32 and {value.dtype for value in rounded.parameters()} == {torch.float32}
    assert not torch.equal(found, expected)
    # the scores of this model lie between -4 and 2
    torch.testing.assert_close(found, expected, rtol=0, atol=0.5)


def test_an_encoder_gets_a_head_by_the_seed(bert: Path, texts: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="genai"):
        first = load(bert)
    assert "gives no scores yet: a new head starts random (classifier.bias, classifier.weight)" in caplog.text
    state = torch.get_rng_state()
    again, other = load(bert), load(bert, seed=18)
    assert torch.equal(state, torch.get_rng_state())
    pairs = first.pairs([QUERIES[0]] * len(texts), texts)
    assert torch.equal(first(pairs), again(pairs)) and not torch.equal(first(pairs), other(pairs))


def test_a_pooler_that_the_files_lack_is_new_too(
    fresh_bert: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    drop_weights(folder := fresh_bert(), "pooler")
    with caplog.at_level(logging.INFO, logger="genai"):
        load(folder)
    assert "(bert.pooler.dense.bias, bert.pooler.dense.weight, classifier.bias, classifier.weight)" in caplog.text


def test_a_trained_head_is_taken_as_it_is(cross_encoder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="genai"):
        load(cross_encoder)
    assert "a new head" not in caplog.text


def test_what_cannot_be_loaded(fresh_bert: Callable[..., Path]) -> None:
    folder = fresh_bert(classifier=True, num_labels=3)
    with pytest.raises(DataError, match="sorts texts into 3 classes, but a reranker gives one number"):
        load(folder)
    with pytest.raises(UsageError, match=r"model\.max_tokens: .* reads at most 64 tokens, not 65"):
        load(folder, max_tokens=65)
    drop_weights(folder := fresh_bert(num_labels=1), "layer.1")
    with pytest.raises(DataError, match="weights are missing or have another shape"):
        load(folder)


def test_tokens_tell_what_a_text_costs(cross_encoder: Path) -> None:
    model = load(cross_encoder, max_tokens=10)
    ids, num_cut = model.tokens(["the", "the " * 30], "document")
    assert [len(each) for each in ids] == [1, 10] and ids[0].dtype == np.int32 and num_cut == 1
    assert [len(pair.ids) for pair in model.pairs(["the"], ["the " * 30])] == [10]


LOSSES: dict[str, tuple[Any, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    "yes or no": (
        BinaryCrossEntropyConfig(positive_weight=3.0),
        lambda scores, labels: binary_cross_entropy(scores, None, positive_weight=3.0),
    ),
    "grades": (BinaryCrossEntropyConfig(), lambda scores, labels: binary_cross_entropy(scores, labels)),
    "list": (ListwiseConfig(), lambda scores, labels: listwise(scores)),
    "margins": (MarginMSEConfig(scale=2.0), lambda scores, labels: margin_losses(2 * scores, labels)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_any_cut_gives_the_gradient_of_the_mean(cross_encoder: Path, texts: list[str], name: str) -> None:
    config, row_losses = LOSSES[name]
    batch = replace(BATCH, labels=None) if name == "yes or no" else BATCH
    if name == "grades":
        batch = replace(BATCH, labels=BATCH.labels / 2)  # type: ignore[operator]
    model = load(cross_encoder)
    asked = [QUERIES[pair] for pair in batch.pairs for _ in range(2)]
    scores = model(model.pairs(asked, [texts[each] for each in batch.passages.flatten()])).reshape(3, 2)
    rows = row_losses(scores, torch.from_numpy(BATCH.labels if batch.labels is None else batch.labels))
    rows.mean().backward()
    expected = gradients(model)
    for microbatch_size, counts in ((3, (3,)), (2, (3,)), (1, (3,)), (2, (1, 0, 2))):
        model.zero_grad()
        total, measured, start = 0.0, [], 0
        loss = RerankerLoss(model, QUERIES, texts, config, device="cpu")
        for count in counts:
            own = slice(start, start + count)
            part = replace(
                batch,
                pairs=batch.pairs[own],
                passages=batch.passages[own],
                labels=None if batch.labels is None else batch.labels[own],
                rows_by_rank=counts,
            )
            total += loss.accumulate(part, microbatch_size, gather)
            measured.append(loss.measure(part, gather))
            start += count
        assert total == pytest.approx(rows.mean().item(), rel=1e-5)
        assert [number for _, number in measured] == list(counts)
        assert sum(value for value, _ in measured) == pytest.approx(rows.sum().item(), rel=1e-5)
        found = gradients(model)
        assert found.keys() == expected.keys()
        # of a key's bias there is no gradient but rounding: softmax does not see it
        largest = max(values.abs().max().item() for values in expected.values())
        for parameter, values in expected.items():
            torch.testing.assert_close(found[parameter], values, rtol=0, atol=1e-5 * largest)


def test_losses_of_encoders_are_refused(cross_encoder: Path, texts: list[str]) -> None:
    with pytest.raises(UsageError, match=r"loss\.name: multiple_negatives_ranking is a loss of encoders"):
        RerankerLoss(load(cross_encoder), QUERIES, texts, MultipleNegativesConfig(), device="cpu")


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("kind", ["encoder", "cross_encoder"])
def test_what_is_written_scores_the_same_everywhere(
    bert: Path, cross_encoder: Path, texts: list[str], tmp_path: Path, kind: str, adapted: bool
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source = bert if kind == "encoder" else cross_encoder
    peft = PeftConfig(r=4, lora_alpha=8) if adapted else None
    model = load(source, peft_config=peft, max_tokens=20, dropout=True)
    loss = RerankerLoss(model, QUERIES, texts, ListwiseConfig(), device="cpu")
    before = model.as_scorer().score(QUERIES[0], texts)
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss.accumulate(BATCH, 2, gather)
        optimizer.step()
    assert model.training
    long = [*texts, "the screed is thick " * 30]
    after = model.as_scorer().score(QUERIES[0], long)
    assert model.training and np.abs(np.subtract(after[: len(texts)], before)).max() > 0.01

    save_reranker(model, source, tmp_path / "written")
    save_reranker(model, source, tmp_path / "written")
    assert model.as_scorer().score(QUERIES[0], long) == after  # the model in training is as it was
    np.testing.assert_allclose(CrossEncoder(tmp_path / "written").score(QUERIES[0], long), after, atol=1e-5)
    again = load(tmp_path / "written")
    np.testing.assert_allclose(again.as_scorer().score(QUERIES[0], long), after, atol=1e-5)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "written").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "written")
    inputs = tokenizer([(QUERIES[0], text) for text in long], truncation=True, padding=True, return_tensors="pt")
    assert inputs["input_ids"].shape[1] == 20
    with torch.no_grad():
        logits = plain(**inputs).logits
    assert logits.shape == (len(long), 1)
    np.testing.assert_allclose(torch.sigmoid(logits)[:, 0], after, atol=1e-5)
    files = {file.name for file in (tmp_path / "written").iterdir()}
    assert files >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert not any(file.suffix in (".bin", ".pt", ".pkl") for file in (tmp_path / "written").iterdir())


@pytest.mark.parametrize(
    "said",
    [
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "5.0.0"}},
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
    ],
)
def test_what_is_written_says_that_scores_are_probabilities(
    fresh_bert: Callable[..., Path], tmp_path: Path, said: dict[str, Any]
) -> None:
    folder = fresh_bert(classifier=True, num_labels=1)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **said}))
    save_reranker(load(folder), folder, tmp_path / "written")
    written = json.loads((tmp_path / "written" / "config.json").read_text())
    assert written["sentence_transformers"] == {"activation_fn": "torch.nn.modules.activation.Sigmoid"}
    assert "sbert_ce_default_activation_function" not in written
    assert (tmp_path / "written" / "model.safetensors").stat().st_mode & 0o777 == (
        tmp_path / "written" / "config.json"
    ).stat().st_mode & 0o777


def test_only_the_adapter_and_the_head_are_trained(bert: Path, texts: list[str]) -> None:
    model = load(bert, peft_config=PeftConfig(r=2))
    RerankerLoss(model, QUERIES, texts, ListwiseConfig(), device="cpu").accumulate(BATCH, 3, gather)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trained == gradients(model).keys()
    assert any("classifier" in name for name in trained)
    assert all("lora_" in name or "modules_to_save" in name for name in trained)
    same = load(bert, peft_config=PeftConfig(r=2))
    for (name, value), (_, other) in zip(model.named_parameters(), same.named_parameters(), strict=True):
        assert torch.equal(value, other), name


def test_infinite_scores_are_told(cross_encoder: Path) -> None:
    model = load(cross_encoder)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.inf)
    with pytest.raises(DataError, match="the reranker gives infinite numbers"):
        model.as_scorer().score("a", ["b"])


@pytest.mark.integration
def test_sentence_transformers_scores_the_same(minilm: Path, tmp_path: Path, texts: list[str]) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = load(minilm)
    save_reranker(model, minilm, tmp_path / "written")
    theirs = sentence_transformers.CrossEncoder(str(tmp_path / "written"), device="cpu")
    assert theirs.max_seq_length == 256
    found = theirs.predict([(QUERIES[0], text) for text in texts])
    np.testing.assert_allclose(found, model.as_scorer().score(QUERIES[0], texts), atol=1e-5)
