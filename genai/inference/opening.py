"""From a model's folder to something that reads steps: loaded, compared with transformers' own pass, ready for use."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.config.finetune import HFCausalLMConfig, TokenizerConfig
from genai.config.serve import LocalEngineConfig
from genai.errors import DataError, GenaiError, UsageError
from genai.inference.adapters import AdapterBank
from genai.inference.interfaces import Runner
from genai.log import get_logger
from genai.models.chat_template import stop_token_ids
from genai.models.freed_memory import return_freed_memory
from genai.models.loading import load_config, load_model, load_tokenizer
from genai.models.precision import device, dtype_for
from genai.models.references import ResolvedModel
from genai.models.tokenizers import TOKENIZER_FILE

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    from genai.inference.runners.linear import Precision

Progress = Callable[[str, float], None]
"""Told what is being done and which share of it is."""

_TOLERANCES = {"fp32": 1e-3, "bf16": 0.15, "int8": 0.8}
"""How far logits may be from the model's own, as a share of their spread (root mean square of a row). Rows that have
nothing to do with one another are 1.4 apart; SmolLM2-135M is 0.08 off in bfloat16, and 0.42 in 8 bits."""
_log = get_logger(__name__)
_one_at_a_time = threading.Lock()
"""Loading takes memory beside the weights, and transformers' progress has one listener."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What can be told of a model before its weights are read."""

    config: PretrainedConfig
    """The model's own config.json."""
    tokenizer_file: Path
    """tokenizer.json."""
    stop_token_ids: list[int]
    """Tokens that end an answer."""
    max_model_len: int
    """Tokens of prompt and answer together."""
    vocab_size: int
    """Columns of the logits, as the config has it."""


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A model in memory, with what an engine needs to know of it."""

    runner: Runner
    bank: AdapterBank
    """Its adapters; none yet."""
    resolved: ResolvedModel
    """Where it came from."""
    tokenizer_file: Path
    """tokenizer.json."""
    stop_token_ids: list[int]
    """Tokens that end an answer."""
    max_model_len: int
    """Tokens of prompt and answer together."""
    vocab_size: int
    """Columns of the logits."""
    config: dict[str, Any]
    """The model's own config.json."""


def describe(
    resolved: ResolvedModel,
    *,
    engine: LocalEngineConfig,
    trust_remote_code: bool = False,
    chat_template: str | None = None,
) -> Description:
    """Look at config and tokenizer of a causal language model, and refuse what could not be served.

    Args:
        resolved: where it lies; its weights are not needed.
        engine: what is asked of it.
        trust_remote_code: run Python that comes with the model.
        chat_template: in place of the model's own; it says which token ends a turn.

    Raises:
        UsageError: this kind of model cannot be served, or a setting does not fit it; says which.
        DataError: a file is missing or damaged.
        MissingExtraError: torch or transformers is not installed.
    """
    asked = _asked(resolved, trust_remote_code)
    config = load_config(asked, resolved)
    from genai.inference.runners.transformers import check_architecture

    check_architecture(config, name=resolved.reference)
    max_model_len = _max_model_len(config, engine, resolved)
    tokenizer_file = _tokenizer_file(resolved)
    tokenizer = load_tokenizer(asked, TokenizerConfig(chat_template=chat_template), resolved)
    vocab_size = int(config.get_text_config(decoder=True).vocab_size)
    if len(tokenizer) > vocab_size:
        _log.warning(
            "%s: its tokenizer has %d tokens and the model only %d", resolved.reference, len(tokenizer), vocab_size
        )
    return Description(
        config=config,
        tokenizer_file=tokenizer_file,
        stop_token_ids=stop_token_ids(tokenizer, _own_ends(config, resolved)),
        max_model_len=max_model_len,
        vocab_size=vocab_size,
    )


def open_model(
    resolved: ResolvedModel,
    *,
    engine: LocalEngineConfig,
    num_threads: int | None = None,
    trust_remote_code: bool = False,
    chat_template: str | None = None,
    progress: Progress | None = None,
) -> OpenedModel:
    """Load a causal language model, and see that it computes what transformers' own pass does.

    Args:
        resolved: where it lies.
        engine: number format, context, adapters.
        num_threads: of torch, in this thread and those to come.
        trust_remote_code: run Python that comes with the model.
        chat_template: in place of the model's own; it says which token ends a turn.
        progress: told how far it is.

    Raises:
        UsageError, MissingExtraError: see `describe`; or its logits come out differently.
        DataError: files are missing or damaged, or memory is out.
    """
    tell = progress or _nobody
    tell("reading config and tokenizer", 0.0)
    described = describe(resolved, engine=engine, trust_remote_code=trust_remote_code, chat_template=chat_template)
    with _one_at_a_time, enough_memory(resolved.reference, resolved.path):
        runner, bank = _load(resolved, engine, num_threads, trust_remote_code, described.max_model_len, tell)
        gc.collect()
        return_freed_memory()
    return OpenedModel(
        runner=runner,
        bank=bank,
        resolved=resolved,
        tokenizer_file=described.tokenizer_file,
        stop_token_ids=described.stop_token_ids,
        max_model_len=described.max_model_len,
        vocab_size=runner.vocab_size,
        config=described.config.to_dict(),
    )


# --- before the weights -----------------------------------------------------------------------------------------------


def _asked(resolved: ResolvedModel, trust_remote_code: bool) -> HFCausalLMConfig:
    return HFCausalLMConfig(pretrained_model_name_or_path=resolved.reference, trust_remote_code=trust_remote_code)


def _max_model_len(config: PretrainedConfig, engine: LocalEngineConfig, resolved: ResolvedModel) -> int:
    from genai.inference.runners.transformers import context_of

    context, wanted = context_of(config), engine.max_model_len
    if context is None and wanted is None:
        raise UsageError(
            f"the config of {resolved.reference} does not say how long a text it can read",
            fix="set engine.max_model_len",
        )
    if context is not None and wanted is not None and wanted > context:
        raise UsageError(
            f"max_model_len: {wanted} is more than {resolved.reference} can read ({context} tokens)",
            fix=f"set engine.max_model_len to at most {context}, or leave it out",
        )
    return wanted or context or 0


def _tokenizer_file(resolved: ResolvedModel) -> Path:
    file = resolved.path / TOKENIZER_FILE
    if not file.is_file():
        raise UsageError(
            f"{resolved.reference} has no fast tokenizer: {TOKENIZER_FILE} is missing",
            where=str(resolved.path),
            fix="make one: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
        )
    return file


def _own_ends(config: PretrainedConfig, resolved: ResolvedModel) -> list[int]:
    """Ends of a text by generation_config.json and config.json."""
    file = resolved.path / "generation_config.json"
    try:
        generation = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise DataError(f"{file.name} is no JSON: {error}", where=str(resolved.path)) from error
    text = config.get_text_config(decoder=True)
    said = [generation.get("eos_token_id"), getattr(config, "eos_token_id", None), getattr(text, "eos_token_id", None)]
    return [token for ids in said if ids is not None for token in (ids if isinstance(ids, list) else [ids])]


# --- the weights ------------------------------------------------------------------------------------------------------


def _load(
    resolved: ResolvedModel,
    engine: LocalEngineConfig,
    num_threads: int | None,
    trust_remote_code: bool,
    max_model_len: int,
    tell: Progress,
) -> tuple[Runner, AdapterBank]:
    import torch

    from genai.inference.probing import check_runner, own_logits
    from genai.inference.runners.llama import supports
    from genai.inference.runners.transformers import vocab_size_of

    if num_threads is not None:
        torch.set_num_threads(num_threads)
    where = device()
    dtype = dtype_for("auto" if engine.precision == "int8" else engine.precision, where)
    with _telling(tell):
        model = load_model(_asked(resolved, trust_remote_code), resolved, dtype=dtype, device=where)
    tell("comparing with transformers", 0.0)
    references = own_logits(model, vocab_size_of(model))
    make = _lean_runner if supports(model.config) else _generic_runner
    precision: Precision = "int8" if engine.precision == "int8" else "bf16" if dtype == torch.bfloat16 else "fp32"
    runner, bank = make(model, resolved.reference, engine, precision, max_model_len)
    del model
    check_runner(runner, references, tolerance=_TOLERANCES[precision], name=resolved.reference)
    tell("comparing with transformers", 1.0)
    return runner, bank


def _lean_runner(
    model: PreTrainedModel, name: str, engine: LocalEngineConfig, precision: Precision, max_model_len: int
) -> tuple[Runner, AdapterBank]:
    from genai.inference.runners.llama import LlamaRunner, activation_dtype
    from genai.inference.runners.transformers import is_linear

    head = model.get_output_embeddings()
    linear: dict[str, Any] = {
        at: layer for at, layer in model.named_modules() if is_linear(layer) and layer is not head
    }
    shapes = {at: (layer.in_features, layer.out_features) for at, layer in linear.items()}
    bank = _bank(shapes, model, engine, activation_dtype(precision, model.dtype, model.device))
    runner = LlamaRunner(
        model, model.config, precision=precision, adapters=bank, compile=engine.compile, device=model.device
    )
    return runner, bank


def _generic_runner(
    model: PreTrainedModel, name: str, engine: LocalEngineConfig, precision: Precision, max_model_len: int
) -> tuple[Runner, AdapterBank]:
    from genai.inference.runners.transformers import TransformersRunner, survey

    if engine.compile:
        _log.warning("%s: compile has no effect on %s", name, type(model).__name__)
    found = survey(model, name=name)
    bank = _bank(found.linear_shapes, model, engine, model.dtype)
    runner = TransformersRunner(model, found, max_positions=max_model_len, precision=precision, adapters=bank)
    return runner, bank


def _bank(
    shapes: Mapping[str, tuple[int, int]], model: PreTrainedModel, engine: LocalEngineConfig, dtype: torch.dtype
) -> AdapterBank:
    return AdapterBank(
        shapes, max_adapters=engine.max_adapters, max_rank=engine.max_lora_rank, dtype=dtype, device=model.device
    )


# --- what can go wrong, and how far it is -----------------------------------------------------------------------------


@contextmanager
def enough_memory(reference: str, folder: Path) -> Iterator[None]:
    """Say in one line that memory is out, whoever found it out.

    Raises:
        DataError: within the block there was not enough memory for the model.
    """
    try:
        yield
    except (MemoryError, RuntimeError, GenaiError) as error:
        if not _is_out_of_memory(error):
            raise
        raise DataError(
            f"there is not enough memory for {reference}",
            where=str(folder),
            fix="choose a smaller model or engine.precision: bf16 or int8, or take other endpoints out",
        ) from error


def _is_out_of_memory(error: BaseException | None) -> bool:
    import torch

    if error is None:
        return False
    said = "can't allocate memory" in str(error) or "Cannot allocate memory" in str(error)
    return said or isinstance(error, MemoryError | torch.OutOfMemoryError) or _is_out_of_memory(error.__cause__)


class _Counted:
    """What transformers counts its weights with, in place of a bar on the terminal."""

    def __init__(self, items: Iterable[Any], tell: Progress, total: int | None) -> None:
        self._items = items
        self._tell = tell
        self._total = total or 1

    def __iter__(self) -> Iterator[Any]:
        for done, item in enumerate(self._items):
            self._tell("loading weights", min(1.0, done / self._total))
            yield item
        self._tell("loading weights", 1.0)


@contextmanager
def _telling(tell: Progress) -> Iterator[None]:
    """Within the block `tell` hears how many weights are loaded."""
    from transformers.utils import logging

    def hook(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not args or kwargs.get("desc") != "Loading weights":
            return factory(*args, **kwargs)
        return _Counted(args[0], tell, len(args[0]) if hasattr(args[0], "__len__") else None)

    before = logging.set_tqdm_hook(hook)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)


def _nobody(what: str, share: float) -> None:
    """Hears how far it is, where nobody else does."""
