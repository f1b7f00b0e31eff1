"""Tokenizers without a model: a folder that holds no more than tokenizer.json, or the tokenizer of any model."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.errors import DataError, MissingExtraError, Problem, UsageError
from genai.models.quiet import quiet_transformers
from genai.models.references import ResolvedModel, exists_problem, resolve_model
from genai.registry import suggest
from genai.storage import fetch, is_remote
from genai.storage.atomic import cache_dir

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKENIZER_FILE = "tokenizer.json"
END_OF_TEXT_NAMES = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|end▁of▁sentence|>")
"""What tokenizers call the end of a document, which in chat models is not the end of a turn."""


@dataclass(frozen=True, kw_only=True)
class FastTokenizer:
    """A tokenizer as data, ready to be sent to another process."""

    json: str
    """The content of tokenizer.json, as the tokenizer in use would write it."""
    fingerprint: str
    """sha256 of that."""
    vocab_size: int
    """One more than the largest id."""
    end_of_text: str
    """The token that ends a document."""
    end_of_text_id: int
    """Its id."""


def tokenizer_problem(reference: str, *, runs_dir: str | Path = "runs") -> Problem | None:
    """What is wrong with a reference to a tokenizer, as far as can be told at once."""
    return None if _is_tokenizer(reference) else exists_problem(reference, runs_dir=runs_dir)


def resolve_tokenizer(reference: str, *, runs_dir: str | Path = "runs") -> ResolvedModel:
    """The folder of a tokenizer: one with a tokenizer.json, or whatever names a model.

    Args:
        reference: a folder, `s3://...`, `gallery:NAME`, `hf:ORG/NAME`, `runs:RUN`.
        runs_dir: where run directories lie.

    Raises:
        UsageError: nothing answers to that reference.
        GenaiError: it could not be fetched.
    """
    if _is_tokenizer(reference):
        return ResolvedModel(reference=reference, kind="folder", path=_path(reference))
    if is_remote(reference):
        folder = fetch(reference, cache_dir() / "buckets")
        if (folder / TOKENIZER_FILE).is_file():
            return ResolvedModel(reference=reference, kind="bucket", path=folder)
    return resolve_model(reference, runs_dir=runs_dir, weights=False)


def load_fast_tokenizer(
    reference: str, *, end_of_text: str | None = None, runs_dir: str | Path = "runs"
) -> FastTokenizer:
    """The tokenizer as transformers would use it, as data.

    Args:
        reference: see `resolve_tokenizer`.
        end_of_text: the token that ends a document; None takes the usual ones, then the end of sequence.
        runs_dir: where run directories lie.

    Raises:
        UsageError: it has no such token, or no fast tokenizer.
        DataError: it cannot be read.
        MissingExtraError: transformers is not installed.
    """
    tokenizer = open_tokenizer(reference, runs_dir=runs_dir)
    vocabulary = tokenizer.get_vocab()
    name = _end_of_text(tokenizer, vocabulary, end_of_text, reference)
    text = tokenizer.backend_tokenizer.to_str()
    return FastTokenizer(
        json=text,
        fingerprint=hashlib.sha256(text.encode()).hexdigest(),
        vocab_size=max(vocabulary.values()) + 1,
        end_of_text=name,
        end_of_text_id=vocabulary[name],
    )


def open_tokenizer(
    reference: str, *, runs_dir: str | Path = "runs", kwargs: Mapping[str, Any] | None = None
) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers has it; see `load_fast_tokenizer`.

    Args:
        reference: see `resolve_tokenizer`.
        runs_dir: where run directories lie.
        kwargs: further arguments for AutoTokenizer.from_pretrained.
    """
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtraError("transformers", extra="train", needed_for="loading a tokenizer")
    resolved = resolve_tokenizer(reference, runs_dir=runs_dir)
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(resolved.path, local_files_only=True, **(kwargs or {}))
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DataError(f"the tokenizer cannot be loaded: {first}", where=str(resolved.path)) from error
    except Exception as error:
        # The tokenizers package raises plain `Exception` over a damaged file.
        if type(error) is not Exception:
            raise
        raise DataError(f"the tokenizer cannot be read: {error}", where=str(resolved.path)) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UsageError(f"{reference} has no fast tokenizer ({TOKENIZER_FILE})", fix="choose another tokenizer")
    return tokenizer


def _end_of_text(
    tokenizer: PreTrainedTokenizerFast, vocabulary: dict[str, int], wanted: str | None, reference: str
) -> str:
    if wanted is not None:
        if wanted in vocabulary:
            return wanted
        near = suggest(wanted, tokenizer.all_special_tokens)
        fix = f"did you mean '{near}'?" if near else f"its special tokens: {', '.join(tokenizer.all_special_tokens)}"
        raise UsageError(f"{reference} has no token '{wanted}'", fix=fix)
    found = next((name for name in END_OF_TEXT_NAMES if name in vocabulary), tokenizer.eos_token)
    if found is None:
        raise UsageError(f"{reference} has no token for the end of a text", fix="name one of its tokens")
    return str(found)


def _is_tokenizer(reference: str) -> bool:
    return (_path(reference) / TOKENIZER_FILE).is_file()


def _path(reference: str) -> Path:
    return Path(reference.removeprefix("file://")).expanduser()
