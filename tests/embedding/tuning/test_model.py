"""The encoder in training against transformers one text at a time; the folder that it writes against other readers."""

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from genai.config.embed_finetune import SentenceEncoderConfig
from genai.config.embedding import EmbeddingConfig
from genai.config.training import PeftConfig
from genai.embedding.opening import open_encoder
from genai.embedding.tuning.model import LiveEncoder, TrainableEncoder, save_encoder
from genai.errors import UsageError


def load(folder: Path, *, precision: Any = "fp32", **changes: Any) -> TrainableEncoder:
    config = SentenceEncoderConfig(pretrained_model_name_or_path=str(folder), **changes)
    return TrainableEncoder.load(folder, config, precision=precision, device="cpu")


def some_ids(lengths: tuple[int, ...] = (5, 12, 3, 12, 1, 9), seed: int = 0) -> list[Any]:
    random = np.random.default_rng(seed)
    return [random.integers(4, 300, length).astype(np.int32) for length in lengths]


def reference(folder: Path, sequences: list[Any], pooling: str = "mean") -> tuple[torch.Tensor, nn.Module]:
    """Vectors of one text at a time, with the model that has their graph."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    rows = []
    for ids in sequences:
        tokens = model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).last_hidden_state[0]
        pools = {"mean": tokens.mean(0), "cls": tokens[0], "last_token": tokens[-1], "max": tokens.amax(0)}
        rows.append(nn.functional.normalize(pools[pooling], dim=0))
    return torch.stack(rows), model


def without_packing(model: TrainableEncoder) -> TrainableEncoder:
    model._packing = None
    return model


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last_token", "max"])
def test_vectors_and_gradients_against_one_text_at_a_time(bert: Path, packed: bool, pooling: Any) -> None:
    model = load(bert, pooling=pooling)
    assert model._packing is not None
    model = model if packed else without_packing(model)
    expected, theirs = reference(bert, some_ids(), pooling)
    found = model(some_ids())
    assert (found.dtype, found.shape) == (torch.float32, (6, 32))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    weights = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    gradients = dict(theirs.named_parameters())
    for name, parameter in model.transformer.named_parameters():
        wanted = gradients[name].grad
        if wanted is None:
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        assert (parameter.grad - wanted).norm() <= 1e-4 * wanted.norm() + 1e-5, name


def test_packed_and_cut_into_chunks_are_the_same(bert: Path) -> None:
    texts = some_ids((30, 2, 30, 17, 17, 44, 3, 8), seed=1)
    torch.testing.assert_close(load(bert)(texts), without_packing(load(bert))(texts), rtol=0, atol=1e-5)


def test_bfloat16_products_over_float32_weights(bert: Path) -> None:
    exact, rounded = load(bert)(some_ids()).detach(), load(bert, precision="amp_bf16")
    found = rounded(some_ids()).detach()
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    assert float((found * exact).sum(1).min()) > 0.99
    assert {parameter.dtype for parameter in rounded.parameters()} == {torch.float32}


def test_dropout_follows_the_mode_and_torchs_generator(bert: Path) -> None:
    model = load(bert).train()
    state = torch.get_rng_state()
    first, second = model(some_ids()), model(some_ids())
    torch.set_rng_state(state)
    assert torch.equal(model(some_ids()), first)
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model(some_ids()), model(some_ids()))


def test_a_text_without_a_token_has_zeros(bert: Path) -> None:
    texts = some_ids((4, 2))
    found = load(bert)([texts[0], np.zeros(0, np.int32), texts[1]])
    assert torch.equal(found[1], torch.zeros(32))
    torch.testing.assert_close(found[[0, 2]], load(bert)(texts))
    assert load(bert)([]).shape == (0, 32)


def test_tokens_with_prompts_and_how_many_were_cut(bert: Path) -> None:
    model = load(bert, query_prompt="who signs ", document_prompt="the ", max_tokens=6)
    texts = ["the screed is thick under the tiles", "a"]
    for kind, prompt in (("query", "who signs "), ("document", "the ")):
        ids, num_cut = model.tokens(texts, kind)  # type: ignore[arg-type]
        assert [len(each) for each in ids] == [6, len(model._tokenizer.sequence(prompt + "a", 99))]
        assert ids[1].tolist() == model._tokenizer.sequence(prompt + "a", 99)
        assert (ids[0].dtype, ids[0][-1], num_cut) == (np.int32, 3, 1)  # [SEP] stays
    with pytest.raises(UsageError, match="reads at most 64 tokens, not 65"):
        load(bert, max_tokens=65)


def test_the_live_encoder_is_the_model_as_it_is_now(bert: Path, texts: list[str]) -> None:
    model = load(bert, document_prompt="the ").train()
    live = LiveEncoder(model, batch_size=4)
    config = EmbeddingConfig(model=str(bert), precision="fp32", document_prompt="the ")
    encoder = open_encoder(config)
    np.testing.assert_allclose(live.embed_documents(texts), encoder.embed_documents(texts), atol=1e-5)
    np.testing.assert_allclose(live.embed_queries(texts), encoder.embed_queries(texts), atol=1e-5)
    assert model.training
    before = live.embed_queries(texts)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    assert np.abs(live.embed_queries(texts) - before).max() > 1e-3


# --- the folder that is written ---------------------------------------------------------------------------------------


def trained(folder: Path, **changes: Any) -> TrainableEncoder:
    """A few steps away from what was loaded."""
    model = load(folder, **changes)
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.3)
    for seed in range(3):
        model(some_ids(seed=seed))[:, 0].sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def vectors_of(folder: Path, texts: list[str]) -> tuple[Any, Any]:
    """Queries and documents, by genai's own reader."""
    encoder = open_encoder(EmbeddingConfig(model=str(folder), precision="fp32"))
    return encoder.embed_queries(texts), encoder.embed_documents(texts)


def test_a_plain_transformer_becomes_a_folder_of_sentence_transformers(
    bert: Path, tmp_path: Path, texts: list[str]
) -> None:
    model = trained(bert, pooling="cls", query_prompt="who signs ", max_tokens=20)
    save_encoder(model, bert, tmp_path / "out")
    written = tmp_path / "out"
    modules = json.loads((written / "modules.json").read_text())
    assert [(entry["idx"], entry["path"], entry["type"].rpartition(".")[2]) for entry in modules] == [
        (0, "", "Transformer"),
        (1, "1_Pooling", "Pooling"),
        (2, "2_Normalize", "Normalize"),
    ]
    assert len({entry["name"] for entry in modules}) == 3
    pooling = json.loads((written / "1_Pooling" / "config.json").read_text())
    assert (pooling["pooling_mode_cls_token"], pooling["pooling_mode_mean_tokens"]) == (True, False)
    assert pooling["word_embedding_dimension"] == 32
    assert json.loads((written / "sentence_bert_config.json").read_text())["max_seq_length"] == 20
    assert json.loads((written / "config.json").read_text())["dtype"] == "float32"
    live = LiveEncoder(model)
    for found, expected in zip(
        vectors_of(written, texts), (live.embed_queries(texts), live.embed_documents(texts)), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    mode = stat.S_IMODE((written / "model.safetensors").stat().st_mode)
    assert mode == stat.S_IMODE((written / "config.json").stat().st_mode)


def test_names_and_shapes_are_those_of_the_original(bert: Path, tmp_path: Path) -> None:
    model = trained(bert)
    save_encoder(model, bert, tmp_path / "out")
    before, after = (load_file(folder / "model.safetensors") for folder in (bert, tmp_path / "out"))
    assert {name: values.shape for name, values in after.items()} == {
        name: values.shape for name, values in before.items()
    }
    name = "encoder.layer.1.output.dense.weight"
    assert after[name].dtype == torch.float32
    assert not torch.equal(after[name], before[name])
    assert torch.equal(after[name], model.transformer.get_parameter(name))


def test_a_pooler_that_was_not_there_is_not_invented(fresh_bert: Callable[..., Path], tmp_path: Path) -> None:
    folder = fresh_bert()
    weights = load_file(folder / "model.safetensors")
    kept = {name: values for name, values in weights.items() if not name.startswith("pooler.")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    save_encoder(load(folder), folder, tmp_path / "out")
    assert set(load_file(tmp_path / "out" / "model.safetensors")) == set(kept)


def test_an_adapter_is_merged_and_the_model_goes_on(bert: Path, tmp_path: Path, texts: list[str]) -> None:
    peft = PeftConfig(r=4, lora_alpha=32, target_modules=["query", "value"])
    model = trained(bert, peft_config=peft)
    moved = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert moved
    assert all("lora_" in name for name in moved)
    expected = LiveEncoder(model).embed_documents(texts)
    save_encoder(model, bert, tmp_path / "out")
    assert set(load_file(tmp_path / "out" / "model.safetensors")) == set(load_file(bert / "model.safetensors"))
    np.testing.assert_allclose(vectors_of(tmp_path / "out", texts)[1], expected, atol=1e-5)
    assert np.abs(vectors_of(bert, texts)[1] - expected).max() > 1e-3
    np.testing.assert_array_equal(LiveEncoder(model).embed_documents(texts), expected)
    model(some_ids())[:, 0].sum().backward()
    assert all(model.get_parameter(name).grad is not None for name in moved)


def add_parts(folder: Path) -> None:
    """A pooling, and a layer after it."""
    for name in ("1_Pooling", "2_Dense"):
        (folder / name).mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"embedding_dimension": 32, "pooling_mode": "lasttoken"}')
    config = {"in_features": 32, "out_features": 8, "bias": True, "activation_function": "torch.nn.modules.Tanh"}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(config))
    random = torch.Generator().manual_seed(0)
    tensors = {"linear.weight": torch.randn(8, 32, generator=random), "linear.bias": torch.randn(8, generator=random)}
    save_file(tensors, folder / "2_Dense" / "model.safetensors")
    prompts = {"prompts": {"query": "who ", "passage": "the "}, "default_prompt_name": None, "kept": 1}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))


def test_layers_after_the_pooling_are_trained_and_written(
    fresh_bert: Callable[..., Path], tmp_path: Path, texts: list[str]
) -> None:
    folder = fresh_bert("Pooling", "Dense")
    add_parts(folder)
    model = load(folder)
    assert model.width == 8
    np.testing.assert_allclose(LiveEncoder(model).embed_queries(texts), vectors_of(folder, texts)[0], atol=1e-5)
    model = trained(folder)
    save_encoder(model, folder, tmp_path / "out")
    before, after = (load_file(place / "2_Dense" / "model.safetensors") for place in (folder, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert not torch.equal(before["linear.weight"], after["linear.weight"])
    np.testing.assert_allclose(
        vectors_of(tmp_path / "out", texts)[0], LiveEncoder(model).embed_queries(texts), atol=1e-5
    )
    pooling = json.loads((tmp_path / "out" / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode"] == "lasttoken"


def test_prompts_are_written_under_every_name_that_counts(
    fresh_bert: Callable[..., Path], tmp_path: Path, texts: list[str]
) -> None:
    folder = fresh_bert("Pooling", "Dense")
    add_parts(folder)
    (folder / "README.md").write_text("of the old weights")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    model = load(folder, document_prompt="under ", query_prompt="")
    save_encoder(model, folder, tmp_path / "out")
    values = json.loads((tmp_path / "out" / "config_sentence_transformers.json").read_text())
    assert values["prompts"] == {"query": "", "passage": "under ", "document": "under "}
    assert values["kept"] == 1
    live = LiveEncoder(model)
    np.testing.assert_allclose(vectors_of(tmp_path / "out", texts)[1], live.embed_documents(texts), atol=1e-5)
    written = {file.name for file in (tmp_path / "out").rglob("*")}
    assert not written & {"README.md", "pytorch_model.bin"}


def test_a_second_save_replaces_the_first(bert: Path, tmp_path: Path) -> None:
    save_encoder(load(bert), bert, tmp_path / "out")
    (tmp_path / "out" / "stale").touch()
    save_encoder(trained(bert), bert, tmp_path / "out")
    assert not (tmp_path / "out" / "stale").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("parts", ["plain", "with layers"])
def test_sentence_transformers_reads_it(
    fresh_bert: Callable[..., Path], tmp_path: Path, texts: list[str], parts: str
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = fresh_bert(*(("Pooling", "Dense") if parts == "with layers" else ()))
    if parts == "with layers":
        add_parts(folder)
    model = trained(folder, query_prompt="who signs ", document_prompt="the ")
    save_encoder(model, folder, tmp_path / "out")
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "out"), device="cpu", local_files_only=True)
    live = LiveEncoder(model)
    texts = [text for text in texts if text]
    np.testing.assert_allclose(theirs.encode_query(texts), live.embed_queries(texts), atol=1e-4)
    np.testing.assert_allclose(theirs.encode_document(texts), live.embed_documents(texts), atol=1e-4)


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
def test_minilm_and_what_is_written_of_it(minilm: Path, faq: list[dict[str, str]], tmp_path: Path) -> None:
    model = load(minilm)
    assert model._packing is not None
    texts = [row["a"] for row in faq[:6]] + ["", "x " * 1000]
    expected = open_encoder(EmbeddingConfig(model=str(minilm), precision="fp32")).embed_documents(texts)
    np.testing.assert_allclose(LiveEncoder(model).embed_documents(texts), expected, atol=1e-5)
    np.testing.assert_allclose(LiveEncoder(without_packing(load(minilm))).embed_documents(texts), expected, atol=1e-5)
    save_encoder(model, minilm, tmp_path / "out")
    before, after = (load_file(folder / "model.safetensors") for folder in (minilm, tmp_path / "out"))
    assert {name: values.shape for name, values in after.items()} == {
        name: values.shape for name, values in before.items() if "position_ids" not in name
    }
    np.testing.assert_allclose(vectors_of(tmp_path / "out", texts)[1], expected, atol=1e-5)


def test_settings_of_the_config_are_not_lost(bert: Path) -> None:
    config = SentenceEncoderConfig(pretrained_model_name_or_path=str(bert))
    plain = TrainableEncoder.load(bert, config, precision="fp32", device="cpu")
    assert (plain.pooling, plain.prompts, plain.max_length) == ("mean", {"query": "", "document": ""}, 48)
    stated = replace(config, pooling="max", max_tokens=9)
    other = TrainableEncoder.load(bert, stated, precision="fp32", device="cpu")
    assert (other.pooling, other.max_length, other.training) == ("max", 9, False)
