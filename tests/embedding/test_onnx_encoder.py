import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genai.config.embedding import EmbeddingConfig
from genai.embedding.onnx_encoder import OnnxModel
from genai.embedding.opening import open_encoder
from genai.errors import DataError


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", "cls", "last_token", "max"])
def test_near_to_torch(bert: Path, texts: list[str], pooling: Any) -> None:
    values = {"model": str(bert), "pooling": pooling, "batch_size": 4}
    exact = open_encoder(EmbeddingConfig(**values, precision="fp32")).embed_documents(texts)
    vectors = open_encoder(EmbeddingConfig(**values, backend="onnx")).embed_documents(texts)
    assert (vectors * exact).sum(axis=1).min() > 0.98
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


@pytest.mark.integration
@pytest.mark.slow
def test_minilm_is_near_to_torch(faq: list[dict[str, str]]) -> None:
    texts = [row["a"] for row in faq[:64]]
    exact = open_encoder(EmbeddingConfig(model="gallery:all-minilm-l6-v2", precision="fp32")).embed_documents(texts)
    encoder = open_encoder(EmbeddingConfig(model="gallery:all-minilm-l6-v2", backend="onnx"))
    assert (encoder.embed_documents(texts) * exact).sum(axis=1).min() > 0.98
    assert (encoder.dimension, encoder.max_tokens) == (384, 254)


@pytest.mark.integration
@pytest.mark.slow
def test_torch_is_not_loaded_once_the_file_is_there(bert: Path) -> None:
    open_encoder(EmbeddingConfig(model=str(bert), backend="onnx")).embed_queries(["a"])
    code = (
        "import sys; from genai.config.embedding import EmbeddingConfig;"
        "from genai.embedding.opening import open_encoder;"
        f"open_encoder(EmbeddingConfig(model={str(bert)!r}, backend='onnx')).embed_queries(['a']);"
        "print([name for name in ('torch', 'transformers', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(DataError, match="ONNX file cannot be read"):
        OnnxModel(tmp_path / "model.onnx", pooling="mean", pad_token_id=0)
