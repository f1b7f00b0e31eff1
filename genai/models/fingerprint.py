"""A short name for the content of a model's folder, cheap enough to be taken at the start of every job."""

from __future__ import annotations

import hashlib
from pathlib import Path

WHOLE_FILE_BYTES = 16 << 20
"""Files up to this size are hashed in full; of larger ones, `SAMPLES` blocks."""
SAMPLES = 256
BLOCK_BYTES = 1 << 16
_WEIGHT_SUFFIXES = (".safetensors", ".gguf")
_CONTENT_SUFFIXES = (*_WEIGHT_SUFFIXES, ".json", ".jinja", ".model", ".txt")
_IGNORED = ("genai-source.json",)


def fingerprint(path: Path, *, weights_only: bool = False) -> str:
    """`sha256:...` of a model's folder or of one file, the same wherever it lies and whenever it was written.

    Of a file larger than 16 MiB the size, the beginning, the end and 254 evenly spaced blocks in between go in:
    training moves every tensor, so that two models cannot agree in all of them, and 16 GB of weights cost no minute
    of hashing.

    Args:
        path: the folder or file.
        weights_only: leave out config, tokenizer and template.
    """
    suffixes = _WEIGHT_SUFFIXES if weights_only else _CONTENT_SUFFIXES
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in suffixes)
    digest = hashlib.sha256()
    for file in files:
        if file.name not in _IGNORED and file.is_file():
            name = "" if path.is_file() else file.relative_to(path).as_posix()
            digest.update(f"{name}\0{file.stat().st_size}\0".encode())
            _update_with_content(digest, file)
    return f"sha256:{digest.hexdigest()}"


def _update_with_content(digest: hashlib._Hash, file: Path) -> None:
    size = file.stat().st_size
    with open(file, "rb") as stream:
        if size <= WHOLE_FILE_BYTES:
            digest.update(stream.read())
            return
        for sample in range(SAMPLES):
            stream.seek((size - BLOCK_BYTES) * sample // (SAMPLES - 1))
            digest.update(stream.read(BLOCK_BYTES))
