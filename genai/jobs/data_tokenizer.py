"""`genai data tokenizer`: a byte-level BPE tokenizer trained on texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from genai.data.convert.inputs import HubOptions, Inputs, find_inputs
from genai.data.convert.parts import is_unicode
from genai.data.convert.reading import Document, Reader, fit_to_records
from genai.data.convert.settings import ConvertSettings
from genai.errors import DataError, UsageError
from genai.log import get_logger, progress
from genai.models.tokenizer_training import SMALLEST_VOCABULARY, bytes_per_token, save_tokenizer, train_tokenizer
from genai.tables.delta import open_delta

_PART_BYTES = 1 << 26
_SAMPLE_CHARS = 1 << 22
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class TokenizerRequest:
    """What the command line asks for."""

    sources: tuple[str, ...]
    """References, at least one."""
    out: Path
    """Folder that is made."""
    vocab_size: int
    """Tokens at most."""
    text: str | None = None
    """The column with the text."""
    max_bytes: int | None = None
    """Read about this much text, evenly from all inputs."""
    hub_split: str = "train"
    """Split of `hf:` data sets."""
    hub_config: str | None = None
    """Configuration of `hf:` data sets."""


@dataclass(frozen=True, kw_only=True)
class TrainedTokenizer:
    """What came of it."""

    path: Path
    """The folder."""
    vocab_size: int
    """Tokens that it has."""
    documents: int
    """Documents that were read."""
    text_bytes: int
    """Their length in UTF-8."""
    bytes_per_token: float
    """On a sample of the same documents."""
    sample_bytes: int
    """How large that sample is."""


def run(request: TokenizerRequest) -> TrainedTokenizer:
    """Train and write a tokenizer.

    Raises:
        UsageError: a source leads nowhere, the folder is there, or the vocabulary is too small.
        DataError: there is no text.
    """
    if request.vocab_size < SMALLEST_VOCABULARY:
        what = f"a vocabulary of {request.vocab_size} tokens cannot hold all 256 bytes and the special tokens"
        raise UsageError(what, where="--vocab-size", fix=f"at least {SMALLEST_VOCABULARY}")
    if request.out.exists():
        raise UsageError("it already exists", where=str(request.out), fix="choose another --out, or remove it")
    hub_options = HubOptions(split=request.hub_split, config=request.hub_config)
    inputs = find_inputs(request.sources, part_bytes=_PART_BYTES, hub_options=hub_options, open_table=open_delta)
    settings = ConvertSettings(target="tokens")
    reader = Reader(inputs=inputs.inputs, settings=settings, hub_options=hub_options, open_table=open_delta)
    reader = replace(reader, settings=fit_to_records(reader, inputs, text_column=request.text))
    texts = _Texts(reader, inputs, request.max_bytes)
    tokenizer = train_tokenizer(texts, vocab_size=request.vocab_size)
    if not texts.num_documents:
        raise DataError("there is no text in it", where=", ".join(request.sources))
    vocab_size = tokenizer.get_vocab_size()
    if vocab_size < request.vocab_size:
        _log.warning("the text gives %d tokens, fewer than the %d asked for", vocab_size, request.vocab_size)
    save_tokenizer(tokenizer, request.out)
    return TrainedTokenizer(
        path=request.out,
        vocab_size=vocab_size,
        documents=texts.num_documents,
        text_bytes=texts.num_bytes,
        bytes_per_token=bytes_per_token(tokenizer, texts.sample),
        sample_bytes=sum(len(text.encode()) for text in texts.sample),
    )


class _Texts:
    """The texts of all documents, counted, with a sample of them; to be read once.

    Args:
        reader: reads the parts.
        inputs: whose parts.
        max_bytes: about how much to read in all, an equal share of each part; None reads everything.
    """

    def __init__(self, reader: Reader, inputs: Inputs, max_bytes: int | None) -> None:
        self._reader = reader
        self._inputs = inputs
        self._share = min(1.0, max_bytes / inputs.size_bytes) if max_bytes else 1.0
        self.num_documents = self.num_bytes = 0
        self.sample: list[str] = []

    def __iter__(self) -> Iterator[str]:
        read_bytes = num_bad = 0
        with progress("reading", self._inputs.size_bytes / 1e6) as task:
            for part in self._inputs.parts:
                left_bytes = self._share * part.size_bytes
                sample_chars = _SAMPLE_CHARS // len(self._inputs.parts)
                for document in (item for piece in part.pieces for item in self._reader.documents(piece)):
                    if not isinstance(document, Document) or not is_unicode(document.text):
                        num_bad += 1
                        continue
                    yield self._counted(document.text, in_sample=sample_chars > 0)
                    left_bytes -= len(document.text)
                    sample_chars -= len(document.text)
                    if left_bytes <= 0 and self._share < 1:
                        break
                read_bytes += part.size_bytes
                task.update(read_bytes / 1e6, unit="MB")
        if num_bad:
            _log.warning("%d documents cannot be used and were left out", num_bad)

    def _counted(self, text: str, *, in_sample: bool) -> str:
        self.num_documents += 1
        self.num_bytes += len(text.encode())
        if in_sample:
            self.sample.append(text)
        return text
