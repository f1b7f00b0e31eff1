"""Tokens into text: the bytes of each token, and a stream that gives whole characters and finds where an answer ends.

A tokenizer's decoder is taken for a function of single tokens: bytes for byte-level BPE, text (or one byte of a
character, `<0xE2>`) for SentencePiece, a word or its continuation for WordPiece. So a token costs a look into a table.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from genai.errors import DataError
from genai.models.generation import FinishReason, GenerationRequest

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_ANCHOR = "a"
"""Stands before a token whose text is asked for: decoders treat the first token of a text in a way of its own."""
_EACH_BYTE = "genai.each_byte"
"""Name of the error handler below."""


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    """One replacement character for each byte that is part of no character, as SentencePiece's decoder does it."""
    assert isinstance(error, UnicodeDecodeError)
    return "\N{REPLACEMENT CHARACTER}" * (error.end - error.start), error.end


codecs.register_error(_EACH_BYTE, _replace_each_byte)


@dataclass(frozen=True, slots=True)
class Finish:
    """How an answer ended by what it says."""

    reason: FinishReason
    stop_reason: str | int | None = None
    """The stop text or token of the request; None when the model ended it."""


_BY_MODEL = Finish(reason="stop")


class Vocabulary:
    """What each token of a tokenizer says.

    Args:
        tokenizer_file: tokenizer.json.

    Raises:
        DataError: it cannot be read.
    """

    def __init__(self, tokenizer_file: Path) -> None:
        from tokenizers import Tokenizer

        try:
            data = json.loads(tokenizer_file.read_text(encoding="utf-8"))
            self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        except (OSError, ValueError) as error:
            raise DataError(f"the tokenizer cannot be read: {error}", where=str(tokenizer_file)) from error
        except Exception as error:
            # The tokenizers package raises plain `Exception` over a damaged file.
            if type(error) is not Exception:
                raise
            raise DataError(f"the tokenizer cannot be read: {error}", where=str(tokenizer_file)) from error
        self.special_ids = frozenset(token["id"] for token in data.get("added_tokens", ()) if token.get("special"))
        """Tokens that are left out of the text by `skip_special_tokens`."""
        self.vocab_size = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        """One more than the largest id; a model may have more, which say nothing."""
        kinds = set(_decoder_types(data.get("decoder") or {}))
        self._is_byte_level = "ByteLevel" in kinds
        self._has_byte_tokens = "ByteFallback" in kinds
        self.strips_first = bool(kinds & {"Strip", "Metaspace", "WordPiece"}) or not kinds
        """Whether the first token of a text is decoded without the space that belongs to it."""
        self.errors = _EACH_BYTE if self._has_byte_tokens else "replace"
        """How `bytes.decode` shows what is no character."""
        self._bytes: list[bytes | None] = [None] * self.vocab_size

    def token_bytes(self, token_id: int) -> bytes:
        """The UTF-8 bytes of a token, which may be a part of a character; none for an id without a token."""
        if not 0 <= token_id < self.vocab_size:
            return b""
        known = self._bytes[token_id]
        if known is None:
            known = self._bytes[token_id] = self._find_bytes(token_id)
        return known

    def token_text(self, token_id: int) -> str:
        """A token alone as text; the replacement character stands for bytes that are no whole character."""
        return self.token_bytes(token_id).decode("utf-8", "replace")

    def first_bytes(self, token_id: int) -> bytes:
        """A token's bytes at the very beginning of a text."""
        token = self._tokenizer.id_to_token(token_id) if 0 <= token_id < self.vocab_size else None
        if not self.strips_first or token is None or (self._has_byte_tokens and _BYTE_TOKEN.fullmatch(token)):
            return self.token_bytes(token_id)
        return self._decode([token]).encode("utf-8", "surrogatepass")

    def _find_bytes(self, token_id: int) -> bytes:
        token = self._tokenizer.id_to_token(token_id)
        if token is None:
            return b""
        if self._is_byte_level:
            return _byte_level(token)
        byte = _BYTE_TOKEN.fullmatch(token) if self._has_byte_tokens else None
        if byte:
            return bytes([int(byte[1], 16)])
        return self._decode([_ANCHOR, token])[len(_ANCHOR) :].encode("utf-8", "surrogatepass")

    def _decode(self, tokens: list[str]) -> str:
        decoder = self._tokenizer.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(tokens))


class TextStream:
    """The text of one answer, token by token.

    Text is given in whole characters. What may still become a stop text is held back, and an answer's text ends right
    before the stop text that is complete first, wherever the borders of its tokens lie.

    Args:
        vocabulary: of the model's tokenizer.
        request: with its stop texts and tokens.
        stop_token_ids: the model's own ends.
    """

    def __init__(
        self, vocabulary: Vocabulary, request: GenerationRequest, *, stop_token_ids: Collection[int] = ()
    ) -> None:
        sampling = request.sampling
        self._vocabulary = vocabulary
        self._skipped = vocabulary.special_ids if sampling.skip_special_tokens else frozenset()
        self._model_ends = frozenset() if sampling.ignore_eos else frozenset(stop_token_ids)
        self._ends = frozenset(sampling.stop_token_ids)
        self._stops = tuple(text for text in sampling.stop if text)
        self._first_characters = frozenset(text[0] for text in self._stops)
        self._include_stop = sampling.include_stop
        self._num_unstoppable = sampling.min_tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")(vocabulary.errors)
        self._held = ""
        self._num_tokens = 0
        # An answer goes on with the prompt's text, so that the space before its first word is its own.
        self._is_first = vocabulary.strips_first and all(token in self._skipped for token in request.prompt_ids)

    def push(self, token_id: int) -> tuple[str, Finish | None]:
        """The answer goes on with this token.

        Returns:
            Text that is certain by now, and how the answer ended if it did; then nothing may be pushed any more.
        """
        self._num_tokens += 1
        if token_id in self._ends or token_id in self._model_ends:
            piece = self._piece(token_id) if self._include_stop else ""
            finish = Finish("stop", token_id) if token_id in self._ends else _BY_MODEL
            return self._take_held() + piece + self._decoder.decode(b"", True), finish
        piece = self._piece(token_id)
        if not self._stops:
            return piece, None
        return self._search(piece)

    def end(self) -> str:
        """What was held back, once the answer is over for another reason (its length, an abort)."""
        return self._take_held() + self._decoder.decode(b"", True)

    def _piece(self, token_id: int) -> str:
        if token_id in self._skipped:
            return ""
        data = self._vocabulary.token_bytes(token_id)
        if self._is_first:
            self._is_first = False
            data = self._vocabulary.first_bytes(token_id)
        return self._decoder.decode(data)

    def _search(self, piece: str) -> tuple[str, Finish | None]:
        text = self._take_held() + piece
        if self._num_tokens <= self._num_unstoppable or not text:
            return text, None
        found = self._first_stop(text)
        if found is not None:
            start, stop = found
            return text[: start + len(stop) if self._include_stop else start], Finish("stop", stop)
        certain = self._num_certain(text)
        self._held = text[certain:]
        return text[:certain], None

    def _first_stop(self, text: str) -> tuple[int, str] | None:
        """Where the stop text begins that is complete first; of two that are complete at once, the longer."""
        found = [(start + len(stop), start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if not found:
            return None
        _, start, stop = min(found)
        return start, stop

    def _num_certain(self, text: str) -> int:
        """How many characters cannot be the beginning of a stop text any more."""
        for start, character in enumerate(text):
            if character in self._first_characters:
                rest = text[start:]
                if any(stop.startswith(rest) for stop in self._stops):
                    return start
        return len(text)

    def _take_held(self) -> str:
        held, self._held = self._held, ""
        return held


def _decoder_types(decoder: Mapping[str, Any]) -> Iterator[str]:
    if decoder.get("type") == "Sequence":
        yield from chain.from_iterable(map(_decoder_types, decoder.get("decoders", ())))
    elif decoder:
        yield str(decoder.get("type"))


def _byte_level(token: str) -> bytes:
    """The bytes that a token of byte-level BPE stands for; an added token may be plain text."""
    try:
        return bytes(map(_BYTE_OF.__getitem__, token))
    except KeyError:
        return token.encode("utf-8", "surrogatepass")


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's letter for each byte: its own where that can be printed, else one from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {
        **{chr(byte): byte for byte in printable},
        **{chr(256 + place): byte for place, byte in enumerate(others)},
    }


_BYTE_OF = _byte_alphabet()
