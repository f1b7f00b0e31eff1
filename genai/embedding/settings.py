"""What a model's folder says about how its vectors are made.

A sentence-transformers folder lists its parts in modules.json: a transformer, a pooling, layers after it. A folder of
transformers alone holds only the transformer. Nothing here imports torch.

Source:
    sentence-transformers 3 to 5: modules.json, sentence_bert_config.json, N_Pooling/config.json, N_Dense/config.json,
    config_sentence_transformers.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from genai.errors import DataError, UsageError

Pooling = Literal["mean", "cls", "last_token", "max"]

_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last_token",
}
_POOLING_NAMES: dict[str, Pooling] = {"cls": "cls", "mean": "mean", "max": "max", "lasttoken": "last_token"}
_QUERY_PROMPTS = ("query",)
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_WIDTHS = ("hidden_size", "d_model", "dim", "n_embd")
"""What architectures call the length of a token's vector in config.json."""
_POSITIONS = ("max_position_embeddings", "n_positions")
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "longformer")
"""Architectures whose first position is pad_token_id + 1, so that so many of the table are never used."""
_WITHOUT_LIMIT = 1_000_000
"""Tokenizers write a number above this where they set no limit."""
_DEFAULT_MAX_LENGTH = 512


@dataclass(frozen=True, kw_only=True)
class FolderSettings:
    """A transformer and what stands after it."""

    transformer: Path
    """The folder with config.json, weights and tokenizer."""
    width: int
    """Numbers of a vector before it is cut."""
    max_length: int
    """Tokens of the longest input, special ones among them."""
    max_positions: int | None
    """What the architecture can read at most; None where positions have no table."""
    pad_token_id: int
    """What shorter inputs of a batch are filled up with."""
    pooling: Pooling | None = None
    """None: the folder does not say."""
    lowercase: bool = False
    """Whether texts are brought to small letters first."""
    document_prompt: str = ""
    """Before every document."""
    query_prompt: str = ""
    """Before every query."""
    dense: tuple[Path, ...] = field(default=())
    """Folders of the layers after the pooling."""


def read_settings(folder: Path) -> FolderSettings:
    """The settings of a transformer's folder.

    Raises:
        DataError: a file of it is missing or damaged.
        UsageError: it has parts that genai cannot run.
    """
    modules = read_modules(folder)
    transformer = folder / modules[0][1] if modules else folder
    config = read_json(transformer / "config.json")
    own = _transformer_settings(transformer)
    dense = tuple(folder / path for kind, path in modules if kind == "Dense")
    positions = _max_positions(config)
    query_prompt, document_prompt = read_prompts(folder)
    return FolderSettings(
        transformer=transformer,
        width=_width(config, transformer, dense),
        max_length=_max_length(own, transformer, positions),
        max_positions=positions,
        pad_token_id=int(config.get("pad_token_id") or 0),
        pooling=_pooling(folder, modules, bool(query_prompt or document_prompt)),
        lowercase=bool(own.get("do_lower_case", False)),
        document_prompt=document_prompt,
        query_prompt=query_prompt,
        dense=dense,
    )


def read_modules(folder: Path) -> list[tuple[str, str]]:
    """Kind and folder of every part, in their order; empty for a folder that is not of sentence-transformers.

    Raises:
        DataError: modules.json is damaged or names a folder outside.
        UsageError: a part is of a kind that genai cannot run.
    """
    file = folder / "modules.json"
    if not file.is_file():
        return []
    listed: Any = json.loads(_text(file)) if _is_json(file) else None
    if not isinstance(listed, list) or not listed:
        raise DataError("modules.json lists no modules", where=str(folder))
    modules = []
    for entry in listed:
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            raise DataError("modules.json names no type for a module", where=str(folder))
        kind, path = entry["type"].rpartition(".")[2], str(entry.get("path") or "")
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise DataError(f"modules.json leads out of the folder: {path}", where=str(folder))
        modules.append((kind, path))
    known = ("Transformer", "StaticEmbedding", "Pooling", "Dense", "Normalize", "Dropout")
    unknown = [kind for kind, _ in modules if kind not in known]
    if unknown or modules[0][0] not in ("Transformer", "StaticEmbedding"):
        raise UsageError(
            f"the model has a part that genai cannot run: {(unknown or [modules[0][0]])[0]}",
            where=str(folder),
            fix=f"it runs {', '.join(known)}",
        )
    return modules


def read_prompts(folder: Path) -> tuple[str, str]:
    """What the folder puts before a query and before a document."""
    file = folder / "config_sentence_transformers.json"
    values = read_json(file) if file.is_file() else {}
    prompts = {name: text for name, text in (values.get("prompts") or {}).items() if isinstance(text, str)}
    default = prompts.get(values.get("default_prompt_name") or "", "")

    def first(names: tuple[str, ...]) -> str:
        return next((prompts[name] for name in names if name in prompts), default)

    return first(_QUERY_PROMPTS), first(_DOCUMENT_PROMPTS)


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DataError: it is missing, no JSON, or no object.
    """
    if not file.is_file():
        raise DataError(f"{file.name} is missing", where=str(file.parent), fix="the model's folder is incomplete")
    values = json.loads(_text(file)) if _is_json(file) else None
    if not isinstance(values, dict):
        raise DataError("this is no JSON object", where=str(file))
    return values


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _is_json(file: Path) -> bool:
    try:
        json.loads(_text(file))
    except ValueError:
        return False
    return True


def _transformer_settings(transformer: Path) -> dict[str, Any]:
    """sentence_bert_config.json, which is named after the architecture in old folders."""
    found = sorted(transformer.glob("sentence_*_config.json"))
    return read_json(found[0]) if found else {}


def _width(config: Mapping[str, Any], transformer: Path, dense: tuple[Path, ...]) -> int:
    if dense:
        return int(read_json(dense[-1] / "config.json")["out_features"])
    inner = config.get("text_config")
    for values in (config, inner if isinstance(inner, dict) else {}):
        for name in _WIDTHS:
            if isinstance(values.get(name), int):
                return cast(int, values[name])
    raise DataError("config.json does not say how long the vectors are (hidden_size)", where=str(transformer))


def _max_positions(config: Mapping[str, Any]) -> int | None:
    positions = next((config[name] for name in _POSITIONS if isinstance(config.get(name), int)), None)
    if positions is None or positions <= 0:
        return None
    unused = int(config.get("pad_token_id") or 0) + 1 if config.get("model_type") in _OFFSET_POSITIONS else 0
    return int(positions) - unused


def _max_length(own: Mapping[str, Any], transformer: Path, positions: int | None) -> int:
    if isinstance(own.get("max_seq_length"), int):
        stated = int(own["max_seq_length"])
    else:
        file = transformer / "tokenizer_config.json"
        written = read_json(file).get("model_max_length") if file.is_file() else None
        limited = isinstance(written, int) and written <= _WITHOUT_LIMIT
        stated = cast(int, written) if limited else (positions or _DEFAULT_MAX_LENGTH)
    return stated if positions is None else min(stated, positions)


def _pooling(folder: Path, modules: list[tuple[str, str]], has_prompts: bool) -> Pooling | None:
    path = next((path for kind, path in modules if kind == "Pooling"), None)
    if path is None:
        return None
    values = read_json(folder / path / "config.json")
    if has_prompts and values.get("include_prompt", True) is False:
        raise UsageError(
            "the model leaves the prompt out of its pooling, which genai cannot do",
            where=str(folder / path),
            fix="serve it elsewhere and use backend: endpoint",
        )
    name = values.get("pooling_mode")
    chosen = [name] if isinstance(name, str) else [key for key, on in values.items() if _is_mode(key) and on is True]
    known = {**_POOLINGS, **_POOLING_NAMES}
    if len(chosen) != 1 or chosen[0] not in known:
        raise UsageError(
            f"the model pools in a way that genai cannot: {', '.join(map(str, chosen)) or 'none'}",
            where=str(folder / path),
            fix=f"it knows {', '.join(_POOLING_NAMES)}, one at a time",
        )
    return known[chosen[0]]


def _is_mode(key: str) -> bool:
    return key.startswith("pooling_mode_")
