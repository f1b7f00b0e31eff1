"""From a .gguf file to a folder with safetensors, config, tokenizer, chat template and generation config.

transformers reads the file and brings quantised weights back to float32, which takes some 20 seconds for 135M
weights: a folder is made once and kept. The logits of the folder equal those of the file.
"""

from __future__ import annotations

import importlib.util
import io
import json
import mmap
import struct
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.errors import DataError, MissingExtraError
from genai.log import get_logger
from genai.models.chat_template import stop_token_ids
from genai.models.pretokenizers import PRE_TOKENIZERS
from genai.models.quiet import quiet_transformers

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

_log = get_logger(__name__)


def convert_gguf(file: Path, to: Path) -> None:
    """Write the model in `file` into the folder `to`, weights in float32.

    Args:
        file: a GGUF file, quantised or not.
        to: an existing empty folder.

    Raises:
        MissingExtraError: torch, transformers or gguf is not installed.
        DataError: the file is damaged, or of an architecture that transformers cannot read from GGUF.
    """
    for package in ("torch", "transformers", "gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra="train", needed_for=f"reading {file.name}")
    _log.info("converting %s to safetensors, once", file.name)
    with quiet_transformers():
        tokenizer, model = _read(file)
        _mend_pre_tokenizer(tokenizer, file)
        model.config._name_or_path = ""
        for leftover in ("_model_name_or_path", "pretraining_tp", "unk_token_id"):
            model.config.__dict__.pop(leftover, None)
        model.generation_config = _generation_config(tokenizer)
        model.save_pretrained(to)
        tokenizer.save_pretrained(to)


def _read(file: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    try:
        with redirect_stderr(io.StringIO()):  # transformers draws a bar here that no setting turns off
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            model = AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                quantization_config=GgufConfig(gguf_file=file.name, dequantize=True),
                dtype=torch.float32,
            )
    except (ValueError, NotImplementedError, KeyError, IndexError, OSError, RuntimeError, struct.error) as error:
        raise DataError(f"transformers cannot read this GGUF file: {error}", where=str(file)) from error
    return tokenizer, model


def _mend_pre_tokenizer(tokenizer: PreTrainedTokenizerBase, file: Path) -> None:
    """Cut text as the file says: transformers takes GPT-2's way where it does not know the name."""
    name = _text_field(file, "tokenizer.ggml.pre")
    if name is not None and name in PRE_TOKENIZERS:
        tokenizer.backend_tokenizer.pre_tokenizer = _pre_tokenizer(PRE_TOKENIZERS[name])
    elif name is not None:
        _log.warning("%s: the pre-tokenizer '%s' is left as transformers reads it", file.name, name)


def _text_field(file: Path, key: str) -> str | None:
    """A text of the metadata, found without reading the 100,000 strings of the vocabulary around it.

    Source: ggml's gguf.md: a key is its length (uint64) and its bytes, then comes the type (8 is text), length and
    bytes.
    """
    wanted = struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", 8)
    with open(file, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        start = view.find(wanted)
        if start < 0:
            return None
        start += len(wanted)
        (length,) = struct.unpack_from("<Q", view, start)
        return bytes(view[start + 8 : start + 8 + length]).decode()


def _pre_tokenizer(description: dict[str, Any]) -> Any:
    """The object that `description`, a part of a tokenizer.json, stands for."""
    from tokenizers import Tokenizer, models

    shell = json.loads(Tokenizer(models.BPE()).to_str())
    return Tokenizer.from_str(json.dumps({**shell, "pre_tokenizer": description})).pre_tokenizer


def _generation_config(tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    from transformers import GenerationConfig

    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=stop_token_ids(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
    )
