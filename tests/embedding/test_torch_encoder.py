"""Vectors against an independent computation: AutoTokenizer, AutoModel, and a pooling written out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genai.config.embedding import EmbeddingConfig
from genai.embedding.opening import open_encoder
from genai.errors import DataError


def reference(folder: Path, texts: list[str], pooling: str = "mean", max_length: int = 48) -> Any:
    """One text at a time, so that nothing is filled up."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, max_length=max_length, padding=False, return_tensors="pt")
        with torch.no_grad():
            tokens = model(**inputs).last_hidden_state[0]
        pools = {"mean": tokens.mean(0), "cls": tokens[0], "last_token": tokens[-1], "max": tokens.max(0).values}
        rows.append(torch.nn.functional.normalize(pools[pooling], dim=0).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last_token", "max"])
def test_poolings_against_transformers(bert: Path, texts: list[str], pooling: Any) -> None:
    config = EmbeddingConfig(model=str(bert), pooling=pooling, precision="fp32", batch_size=4)
    vectors = open_encoder(config).embed_documents(texts)
    np.testing.assert_allclose(vectors, reference(bert, texts, pooling), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_bfloat16_is_near(bert: Path, texts: list[str]) -> None:
    vectors = [
        open_encoder(EmbeddingConfig(model=str(bert), precision=precision)).embed_queries(texts)
        for precision in ("fp32", "bf16")
    ]
    assert (vectors[0] != vectors[1]).any()
    assert (vectors[0] * vectors[1]).sum(axis=1).min() > 0.99


def test_a_matryoshka_dimension(bert: Path, texts: list[str]) -> None:
    encoder = open_encoder(EmbeddingConfig(model=str(bert), dimension=8, precision="fp32"))
    whole = reference(bert, texts)[:, :8]
    expected = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    assert encoder.dimension == 8
    np.testing.assert_allclose(encoder.embed_documents(texts), expected, atol=5e-6)


def test_prompts_of_the_folder_and_of_the_config(fresh_bert: Callable[..., Path], texts: list[str]) -> None:
    folder = fresh_bert("Pooling")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    prompts = {"prompts": {"query": "who signs ", "document": "the "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    encoder = open_encoder(EmbeddingConfig(model=str(folder), precision="fp32"))
    for embed, prompt in ((encoder.embed_queries, "who signs "), (encoder.embed_documents, "the ")):
        expected = reference(folder, [prompt + text for text in texts], "cls")
        np.testing.assert_allclose(embed(texts), expected, atol=2e-6)
    own = open_encoder(EmbeddingConfig(model=str(folder), precision="fp32", query_prompt="", document_prompt="a "))
    np.testing.assert_allclose(own.embed_queries(texts), reference(folder, texts, "cls"), atol=2e-6)
    assert len({encoder.fingerprint, own.fingerprint}) == 2


def test_long_texts_are_cut(bert: Path) -> None:
    long = "the screed is thick " * 40
    vectors = open_encoder(EmbeddingConfig(model=str(bert), precision="fp32")).embed_documents([long])
    np.testing.assert_allclose(vectors, reference(bert, [long]), atol=2e-6)
    encoder = open_encoder(EmbeddingConfig(model=str(bert), precision="fp32", max_tokens=12))
    assert encoder.max_tokens == 10
    np.testing.assert_allclose(encoder.embed_documents([long]), reference(bert, [long], max_length=12), atol=2e-6)


def test_the_encoder_half_of_an_encoder_decoder(tmp_path: Path, bert: Path, texts: list[str]) -> None:
    import torch
    from transformers import AutoTokenizer, T5Config, T5EncoderModel

    torch.manual_seed(0)
    config = T5Config(vocab_size=400, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4)
    model = T5EncoderModel(config).eval()
    model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((bert / name).read_text())
    inputs = AutoTokenizer.from_pretrained(tmp_path)(texts[0], return_tensors="pt", truncation=True, max_length=48)
    with torch.no_grad():
        expected = model(inputs["input_ids"]).last_hidden_state[0].mean(0)
    vectors = open_encoder(EmbeddingConfig(model=str(tmp_path), precision="fp32")).embed_documents(texts)
    np.testing.assert_allclose(vectors[0], (expected / expected.norm()).numpy(), atol=2e-6)


def test_a_decoder_that_pools_its_last_token(tmp_path: Path, bert: Path, texts: list[str]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        initializer_range=0.5,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)  # has a head that nobody asks for
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((bert / name).read_text())
    encoder = open_encoder(EmbeddingConfig(model=str(tmp_path), precision="fp32", pooling="last_token"))
    np.testing.assert_allclose(encoder.embed_documents(texts), reference(tmp_path, texts, "last_token"), atol=2e-6)


def test_weights_that_lack_are_no_model(fresh_bert: Callable[..., Path]) -> None:
    from safetensors.torch import load_file, save_file

    folder = fresh_bert()
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("pooler.")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    encoder = open_encoder(EmbeddingConfig(model=str(folder)))
    assert encoder.embed_documents(["a"]).shape == (1, 32)  # the pooler is not looked at
    del kept["encoder.layer.1.output.dense.weight"]
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"1 weights are missing .*layer\.1\.output\.dense\.weight"):
        open_encoder(EmbeddingConfig(model=str(folder))).embed_documents(["a"])


def test_a_pickle_is_not_opened(fresh_bert: Callable[..., Path]) -> None:
    import torch

    folder = fresh_bert()
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(DataError, match="cannot be loaded"):
        open_encoder(EmbeddingConfig(model=str(folder))).embed_documents(["a"])


def test_damaged_weights(fresh_bert: Callable[..., Path]) -> None:
    folder = fresh_bert()
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged"):
        open_encoder(EmbeddingConfig(model=str(folder))).embed_documents(["a"])


def test_infinite_weights(fresh_bert: Callable[..., Path]) -> None:
    from safetensors.torch import load_file, save_file

    folder = fresh_bert()
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.LayerNorm.weight"][:] = float("inf")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="infinite numbers for 1 of 1 texts"):
        open_encoder(EmbeddingConfig(model=str(folder))).embed_documents(["a"])


@pytest.mark.integration
def test_minilm_against_transformers(minilm: Path, faq: list[dict[str, str]]) -> None:
    texts = [row["a"] for row in faq[:6]] + ["", "x " * 1000]
    encoder = open_encoder(EmbeddingConfig(model="gallery:all-minilm-l6-v2", precision="fp32"))
    vectors = encoder.embed_documents(texts)
    assert (encoder.dimension, encoder.max_tokens, vectors.shape) == (384, 254, (8, 384))
    np.testing.assert_allclose(vectors, reference(minilm, texts, max_length=256), atol=2e-6)
    short = open_encoder(EmbeddingConfig(model="gallery:all-minilm-l6-v2", precision="bf16"))
    assert (short.embed_documents(texts) * vectors).sum(axis=1).min() > 0.999


def test_an_encoder_that_cannot_be_had_alone(tmp_path: Path, bert: Path) -> None:
    from transformers import BartConfig, BartModel

    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    BartModel(BartConfig(vocab_size=400, d_model=16, **sizes)).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((bert / name).read_text())
    with pytest.raises(DataError, match="bart is an encoder-decoder"):
        open_encoder(EmbeddingConfig(model=str(tmp_path))).embed_documents(["a"])
