"""Train a byte-level BPE tokenizer on texts: the same texts in the same order give the same tokenizer.

Source: Sennrich, Haddow, Birch 2016, "Neural machine translation of rare words with subword units", on bytes as in
GPT-2; the text is cut before merging as Llama 3 does it, which llama.cpp knows as `llama-bpe`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genai.errors import MissingExtraError, UsageError
from genai.models.pretokenizers import PRE_TOKENIZERS
from genai.storage.atomic import atomic_directory

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT, PAD = "<|endoftext|>", "<|pad|>"
SPECIAL_TOKENS = (END_OF_TEXT, PAD, "<|im_start|>", "<|im_end|>")
"""Ids 0 to 3: the end of a document, padding, and the turns of a chat that the model may be tuned for later."""
SMALLEST_VOCABULARY = 256 + len(SPECIAL_TOKENS)
"""Every byte is a token, so that no text is unknown."""


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer.

    Args:
        texts: what to learn from; read once.
        vocab_size: how many tokens at most, special ones among them; a small text gives fewer.

    Raises:
        UsageError: `vocab_size` is too small for all bytes.
        MissingExtraError: `tokenizers` is not installed.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise UsageError(f"a vocabulary of {vocab_size} tokens cannot hold all bytes", fix=f"{SMALLEST_VOCABULARY} can")
    try:
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    except ModuleNotFoundError as error:
        raise MissingExtraError("tokenizers", extra="train", needed_for="training a tokenizer") from error
    pattern = PRE_TOKENIZERS["llama-bpe"]["pretokenizers"][0]["pattern"]["Regex"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, *, model_max_length: int | None = None) -> None:
    """Write the files that transformers' AutoTokenizer loads; the folder appears whole.

    Args:
        tokenizer: as `train_tokenizer` gave it.
        folder: must not exist.
        model_max_length: longest text in tokens that a model takes, where that is known.

    Raises:
        DataError: the folder exists.
    """
    from transformers import PreTrainedTokenizerFast

    limits = {} if model_max_length is None else {"model_max_length": model_max_length}
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        **limits,
    )
    with atomic_directory(folder) as scratch:
        wrapped.save_pretrained(scratch)


def bytes_per_token(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """How many bytes of UTF-8 a token stands for on average; NaN without any text."""
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    num_tokens = sum(len(encoding.ids) for encoding in encodings)
    return sum(len(text.encode()) for text in texts) / num_tokens if num_tokens else float("nan")
