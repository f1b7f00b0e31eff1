import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from genai.config.embedding import EmbeddingConfig, RerankerConfig
from genai.embedding.opening import open_encoder, open_reranker
from genai.errors import GenaiError, UsageError


def test_a_fingerprint_depends_on_what_the_vectors_do(bert: Path) -> None:
    def fingerprint(**changes: Any) -> str:
        return open_encoder(EmbeddingConfig(model=str(bert), **changes)).fingerprint

    changes = [
        {},
        {"backend": "onnx"},
        {"pooling": "cls"},
        {"normalize": False},
        {"dimension": 8},
        {"max_tokens": 30},
        {"query_prompt": "q: "},
        {"document_prompt": "q: "},
    ]
    assert len({fingerprint(**change) for change in changes}) == len(changes)
    same = {"backend": "torch", "pooling": "mean", "precision": "bf16", "batch_size": 7, "max_tokens": 48}
    assert fingerprint(**same) == fingerprint()


def test_a_fingerprint_depends_on_the_weights_and_not_on_the_place(bert: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(bert, tmp_path / "copy"))
    encoders = [open_encoder(EmbeddingConfig(model=str(folder))) for folder in (bert, copy)]
    assert encoders[0].fingerprint == encoders[1].fingerprint
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert open_encoder(EmbeddingConfig(model=str(copy))).fingerprint != encoders[0].fingerprint


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dimension": 33}, r"embedding\.dimension: .* has vectors of 32 numbers"),
        ({"max_tokens": 65}, r"embedding\.max_tokens: .* reads at most 64 tokens"),
    ],
)
def test_more_than_the_model_has(bert: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_encoder(EmbeddingConfig(model=str(bert), **changes))


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        open_encoder(EmbeddingConfig(model=str(tmp_path / "nothing")))
    with pytest.raises(UsageError, match=r"did you mean 'gallery:all-minilm-l6-v2'"):
        open_encoder(EmbeddingConfig(model="gallery:all-minilm-l6"))
    with pytest.raises(UsageError, match=r"config\.json is missing"):
        open_reranker(RerankerConfig(model=str(tmp_path)))


def test_a_bucket_is_not_asked_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_OFFLINE", "1")
    with pytest.raises(GenaiError, match="GENAI_OFFLINE is set"):
        open_encoder(EmbeddingConfig(model="s3://bucket/model"))


def test_a_run(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model").symlink_to(bert)
    encoder = open_encoder(EmbeddingConfig(model="runs:mine"), runs_dir=tmp_path)
    assert encoder.dimension == 32


def test_what_is_known_without_torch(bert: Path) -> None:
    code = (
        "import sys; from genai.embedding.opening import open_encoder, open_reranker;"
        "print('numpy' in sys.modules);"
        "from genai.config.embedding import EmbeddingConfig;"
        f"encoder = open_encoder(EmbeddingConfig(model={str(bert)!r}));"
        "encoder.fingerprint, encoder.dimension, encoder.max_tokens, encoder.token_offsets('a b');"
        "print([name for name in ('torch', 'transformers', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["False", "[]"]
