"""Texts as token ids, by the tokenizers package alone: no transformers and no torch is needed for that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.embedding.settings import read_json
from genai.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TextTokenizer:
    """Cuts texts into the tokens of a model.

    Args:
        tokenizer: without truncation and padding of its own.
        prefix: ids before every text, e.g. of [CLS].
        suffix: ids after it, e.g. of [SEP].
        lowercase: whether texts are brought to small letters first.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, prefix: Sequence[int], suffix: Sequence[int], lowercase: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self._prefix = list(prefix)
        self._suffix = list(suffix)
        self._lowercase = lowercase

    @property
    def num_special_tokens(self) -> int:
        """How many are put around every text."""
        return len(self._prefix) + len(self._suffix)

    def ids(self, text: str) -> list[int]:
        """Of the text alone."""
        return list(self._encode(text).ids)

    def sequence(self, text: str, max_length: int) -> list[int]:
        """What a model reads: special tokens around the text, whose end is left out where it is too long."""
        room = max(0, max_length - self.num_special_tokens)
        return [*self._prefix, *self.ids(text)[:room], *self._suffix]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Start and end, in characters, of every token of the text."""
        return list(self._encode(text).offsets)

    def _encode(self, text: str) -> Any:
        # One text a call: the batch functions start threads, which a process that forks later must not have.
        return self._tokenizer.encode(valid(_lowered(text) if self._lowercase else text), add_special_tokens=False)


def load_tokenizer(folder: Path, *, lowercase: bool = False) -> TextTokenizer:
    """The tokenizer of a model's folder, with the special tokens that its config asks for.

    Raises:
        DataError: there is none, or it is damaged.
        MissingExtraError: the package tokenizers is not installed.
    """
    tokenizer = open_backend(folder)
    alone = tokenizer.encode("a")
    specials = list(alone.special_tokens_mask)
    start = specials.index(0) if 0 in specials else len(specials)
    end = len(specials) - specials[::-1].index(0) if 0 in specials else len(specials)
    prefix, suffix = list(alone.ids[:start]), list(alone.ids[end:])
    config = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    first, last = (_special_id(tokenizer, config, name) for name in ("bos", "eos"))
    if first is not None and prefix[:1] != [first]:
        prefix = [first, *prefix]
    if last is not None and suffix[-1:] != [last]:
        suffix = [*suffix, last]
    return TextTokenizer(tokenizer, prefix=prefix, suffix=suffix, lowercase=lowercase)


def read_tokenizer(file: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, whatever its name, without truncation and padding.

    Raises:
        DataError: the file is damaged.
        MissingExtraError: the package tokenizers is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise MissingExtraError("tokenizers", extra="index", needed_for="cutting texts into tokens") from error
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:
        # The tokenizers package raises plain `Exception` over a damaged file.
        if type(error) is not Exception:
            raise
        raise DataError(f"the tokenizer cannot be read: {error}", where=str(file)) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def open_backend(folder: Path) -> Tokenizer:
    """The tokenizer of a model's folder; one without tokenizer.json is converted by transformers."""
    if (folder / "tokenizer.json").is_file():
        return read_tokenizer(folder / "tokenizer.json")
    from genai.models.tokenizers import open_tokenizer

    tokenizer = open_tokenizer(str(folder)).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def valid(text: str) -> str:
    """The text with half surrogate pairs, which no tokenizer takes, replaced one by one."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _special_id(tokenizer: Tokenizer, config: dict[str, Any], name: str) -> int | None:
    """The id of the token that tokenizer_config.json wants before or after every text, as transformers does it."""
    if config.get(f"add_{name}_token") is not True:
        return None
    token = config.get(f"{name}_token")
    content = token.get("content") if isinstance(token, dict) else token
    return tokenizer.token_to_id(content) if isinstance(content, str) else None


def _lowered(text: str) -> str:
    """Small letters, character by character, so that offsets stay those of the text."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(low if len(low := c.lower()) == 1 else c for c in text)
