import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genai.config.embedding import EmbeddingConfig
from genai.embedding.opening import open_encoder
from genai.embedding.static_encoder import find_static, tensor_shapes
from genai.errors import DataError, UsageError

UNKNOWN = 1


def ids_of(folder: Path, text: str) -> list[int]:
    """By the tokenizers package, with all that the file switches on switched off."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def scaled(vectors: Any) -> Any:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def test_model2vec_is_a_mean_without_unknown_tokens(model2vec: Path, table: Any, texts: list[str]) -> None:
    texts = [*texts, "the ☃ screed", "☃"]
    encoder = open_encoder(EmbeddingConfig(model=str(model2vec)))
    assert (encoder.dimension, encoder.max_tokens) == (16, 20)
    all_ids = [[i for i in ids_of(model2vec, text)[:20] if i != UNKNOWN] for text in texts]
    expected = [scaled(table[ids].mean(axis=0)) if ids else np.zeros(16) for ids in all_ids]
    np.testing.assert_allclose(encoder.embed_documents(texts), expected, atol=1e-6)
    assert any(UNKNOWN in ids_of(model2vec, text) for text in texts)


def test_token_weights_and_a_smaller_table(model2vec: Path, table: Any, texts: list[str]) -> None:
    from safetensors.numpy import save_file

    size = len(tensor_shapes(model2vec / "model.safetensors")) and 300
    rows = np.arange(size) % 50
    weights = np.linspace(0.1, 2, size)
    small = table[:50].astype(np.float16)
    save_file({"embeddings": small, "mapping": rows, "weights": weights}, model2vec / "model.safetensors")
    ids = np.array([i for i in ids_of(model2vec, texts[0])[:20] if i != UNKNOWN])
    expected = scaled((small[rows[ids]].astype(np.float32) * weights[ids, None]).mean(axis=0))
    vectors = open_encoder(EmbeddingConfig(model=str(model2vec))).embed_documents(texts)
    np.testing.assert_allclose(vectors[0], expected, atol=1e-6)


@pytest.mark.parametrize("place", ["", "0_StaticEmbedding"])
def test_a_table_of_sentence_transformers(model2vec: Path, table: Any, texts: list[str], place: str) -> None:
    from safetensors.numpy import save_file

    base = model2vec / place
    base.mkdir(exist_ok=True)
    save_file({"embedding.weight": table}, base / "model.safetensors")
    if place:
        (model2vec / "tokenizer.json").rename(base / "tokenizer.json")
        (model2vec / "model.safetensors").unlink()
    (model2vec / "config.json").unlink()
    modules = [{"idx": 0, "path": place, "type": "sentence_transformers.models.StaticEmbedding"}]
    (model2vec / "modules.json").write_text(json.dumps(modules))
    encoder = open_encoder(EmbeddingConfig(model=str(model2vec), backend="static"))
    expected = [scaled(table[ids].mean(axis=0)) if (ids := ids_of(base, text)) else np.zeros(16) for text in texts]
    np.testing.assert_allclose(encoder.embed_documents(texts), expected, atol=1e-6)
    assert encoder.max_tokens == 512


def test_prompts_and_dimension(model2vec: Path, texts: list[str]) -> None:
    plain = open_encoder(EmbeddingConfig(model=str(model2vec), max_tokens=100))
    prompted = open_encoder(EmbeddingConfig(model=str(model2vec), max_tokens=100, query_prompt="the ", dimension=4))
    expected = scaled(plain.embed_documents([f"the {text}" for text in texts])[:, :4])
    np.testing.assert_allclose(prompted.embed_queries(texts), expected, atol=1e-6)
    assert plain.fingerprint != prompted.fingerprint


def test_no_table(bert: Path, tmp_path: Path) -> None:
    assert find_static(bert) is None
    assert find_static(tmp_path) is None
    with pytest.raises(UsageError, match=r"embedding\.backend: .* is a transformer"):
        open_encoder(EmbeddingConfig(model=str(bert), backend="static"))


def test_a_table_is_no_transformer(model2vec: Path) -> None:
    with pytest.raises(UsageError, match=r"embedding\.backend: .* is a table of vectors"):
        open_encoder(EmbeddingConfig(model=str(model2vec), backend="torch"))


def test_a_table_without_a_tokenizer(model2vec: Path) -> None:
    (model2vec / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="no tokenizer"):
        find_static(model2vec)


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x02" + b"\0" * 7 + b"[]", b"\x09" + b"\0" * 7 + b'{"a": {}}'])
def test_damaged_weights(model2vec: Path, content: bytes) -> None:
    (model2vec / "model.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="no safetensors file"):
        find_static(model2vec)


def test_cut_off_weights(model2vec: Path) -> None:
    file = model2vec / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataError, match="table of vectors cannot be read"):
        open_encoder(EmbeddingConfig(model=str(model2vec))).embed_documents(["a"])


def test_several_tables(tmp_path: Path) -> None:
    for name in ("weights/a.safetensors", "weights/b.safetensors", "tokenizers/a.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match="there are 2 files"):
        find_static(tmp_path)


def test_torch_is_not_loaded(model2vec: Path) -> None:
    code = (
        "import sys; from genai.config.embedding import EmbeddingConfig;"
        "from genai.embedding.opening import open_encoder;"
        f"encoder = open_encoder(EmbeddingConfig(model={str(model2vec)!r})); encoder.fingerprint;"
        "encoder.embed_documents(['a b']);"
        "print([name for name in ('torch', 'transformers', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.integration
def test_wordllama(wordllama: Path) -> None:
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    encoder = open_encoder(EmbeddingConfig(model=str(wordllama)))
    texts = ["The screed is 60 mm thick.", "How thick is the screed?", "Lunch is at noon."]
    vectors = encoder.embed_documents(texts)
    table = load_file(next((wordllama / "weights").iterdir()))["embedding.weight"].astype(np.float32)
    tokenizer = Tokenizer.from_file(str(next((wordllama / "tokenizers").iterdir())))
    expected = [scaled(table[tokenizer.encode(text, add_special_tokens=False).ids].mean(axis=0)) for text in texts]
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert encoder.dimension == 256
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
