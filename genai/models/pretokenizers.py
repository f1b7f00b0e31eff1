"""How byte-level BPE tokenizers cut text before merging: llama.cpp's name of each way, and the way itself.

A GGUF file says only the name (`tokenizer.ggml.pre`), a tokenizer.json only the way. Taking the wrong one changes
what the model reads without any error, so that an unknown name or way is refused instead of guessed.

Source: the `pre_tokenizer` of the models' own tokenizer.json files; the names are those of llama.cpp's llama-vocab.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2_SPLIT = _LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _split(pattern: str) -> dict[str, Any]:
    splitter = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [splitter, _byte_level(use_regex=False)]}


PRE_TOKENIZERS: Mapping[str, dict[str, Any]] = {
    "gpt-2": _byte_level(use_regex=True),
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)],
    },
    "llama-bpe": _split(_LLAMA3_SPLIT),
    "qwen2": _split(_QWEN2_SPLIT),
}
"""llama.cpp's name to the `pre_tokenizer` of a tokenizer.json."""


def name_of(pre_tokenizer: Mapping[str, Any] | None) -> str | None:
    """llama.cpp's name for the `pre_tokenizer` of a tokenizer.json, or None when it has none that we know."""
    wanted = _without_offsets(pre_tokenizer)
    return next((name for name, way in PRE_TOKENIZERS.items() if _without_offsets(way) == wanted), None)


def _without_offsets(value: Any) -> Any:
    """`value` without `trim_offsets`, which moves the offsets of tokens but not the tokens."""
    if isinstance(value, Mapping):
        return {key: _without_offsets(inner) for key, inner in value.items() if key != "trim_offsets"}
    return [_without_offsets(inner) for inner in value] if isinstance(value, list) else value
