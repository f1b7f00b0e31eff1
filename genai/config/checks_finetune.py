"""What in a fine-tuning job contradicts itself or has no effect, as far as the job file alone tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from genai.config.checks_sections import check_peft, check_revision
from genai.config.checks_training import CAUSAL_CHECKS
from genai.config.findings import Finding, fault, no_effect
from genai.config.finetune import (
    FinetuneConfig,
    FinetuningDatasetConfig,
    FinetuningLoaderConfig,
    QuantizationConfig,
)
from genai.registry import suggest

COLUMNS: dict[str, tuple[str, ...]] = {
    "chat": ("messages",),
    "prompt_response": ("prompt", "response"),
    "alpaca": ("instruction", "input", "output"),
    "sharegpt": ("conversations",),
    "text": ("text",),
}
"""Format of the rows -> the columns that `columns` may rename."""


def check_finetune(config: FinetuneConfig) -> list[Finding]:
    """Faults that no single field shows, and settings without an effect."""
    return [finding for check in _CHECKS for finding in check(config)]


def _loaders(config: FinetuneConfig) -> Iterator[tuple[str, FinetuningLoaderConfig]]:
    yield "train_loader", config.train_loader
    if config.eval_loader is not None:
        yield "eval_loader", config.eval_loader


def _datasets(config: FinetuneConfig) -> Iterator[Finding]:
    for loader_name, loader in _loaders(config):
        yield from _dataset(f"{loader_name}.dataset", loader.dataset, config)


def _dataset(key: str, dataset: FinetuningDatasetConfig, config: FinetuneConfig) -> Iterator[Finding]:
    yield from _place(key, dataset)
    if dataset.max_seq_len is not None and dataset.max_seq_len > config.max_seq_len:
        message = f"{key}.max_seq_len is {dataset.max_seq_len}, more than the job's max_seq_len of {config.max_seq_len}"
        yield fault(f"{key}.max_seq_len", message, "raise max_seq_len, or leave this one out")
    if not dataset.shuffle and dataset.shuffle_seed is not None:
        yield no_effect(f"{key}.shuffle_seed", "shuffle is false")
    if isinstance(dataset.packing_ratio, float | int):
        why = "rows are filled best-fit, which needs no ratio; this is the same as packing_ratio: auto"
        yield no_effect(f"{key}.packing_ratio", why)
    if dataset.hf_kwargs and not dataset.hf_name and not _is_hub_data(dataset.path):
        yield no_effect(f"{key}.hf_kwargs", "the rows do not come from a Hugging Face data set")
    if "trust_remote_code" in dataset.hf_kwargs:
        yield fault(f"{key}.hf_kwargs.trust_remote_code", "code of a data set is never run", "remove it")
    yield from _columns(key, dataset)


def _place(key: str, dataset: FinetuningDatasetConfig) -> Iterator[Finding]:
    """Whether there is one place that rows come from."""
    shards = next((name for name in ("streams", "remote", "local") if getattr(dataset, name)), None)
    places = [name for name in ("path", "hf_name", shards) if name is not None and getattr(dataset, name)]
    if not places:
        yield fault(key, f"{key} names no data", "write path: FILE, or hf_name: DATASET")
    if len(places) > 1:
        yield fault(f"{key}.{places[1]}", f"{key} has both {' and '.join(places)}", "keep one of them")
    if shards is None and dataset.validate_hash:
        yield no_effect(f"{key}.validate_hash", "the rows do not come from shards")
    if dataset.streams and (dataset.remote or dataset.local):
        why = "streams take its place"
        yield no_effect(f"{key}.{'remote' if dataset.remote else 'local'}", why)
    for name, stream in (dataset.streams or {}).items():
        if not stream.remote and not stream.local:
            yield fault(f"{key}.streams.{name}", f"stream '{name}' names no shards", "write remote: or local:")


def _is_hub_data(path: str | list[str] | None) -> bool:
    paths = [path] if isinstance(path, str) else path or []
    return any(each.startswith("hf:") for each in paths)


def _columns(key: str, dataset: FinetuningDatasetConfig) -> Iterator[Finding]:
    known = COLUMNS.get(dataset.format, tuple(name for names in COLUMNS.values() for name in names))
    for name in dataset.columns:
        if name not in known:
            near = suggest(name, known)
            fix = f"did you mean '{near}'?" if near else f"columns of {dataset.format}: {', '.join(known)}"
            swapped = f"; it is written {{{known[0]}: {name}}}" if dataset.columns[name] in known else ""
            yield fault(f"{key}.columns.{name}", f"the format {dataset.format} has no '{name}'{swapped}", fix)


def _evaluation(config: FinetuneConfig) -> Iterator[Finding]:
    split = config.data.split
    if config.eval_loader is not None and split is not None:
        message = "data.split makes evaluation rows, and eval_loader names others"
        yield fault("data.split", message, "keep one of them")
    if split is not None and split.validation == 0:
        yield fault("data.split.validation", "data.split.validation of 0 holds nothing back", "remove data.split")
    if split is not None and isinstance(split.validation, float) and split.validation == 1:
        message = "data.split.validation of 1.0 leaves nothing to train on"
        yield fault("data.split.validation", message, "write a share such as 0.1, or a number of rows such as 100")
    if config.eval_loader is None and split is None:
        yield from _without_evaluation(config)


def _without_evaluation(config: FinetuneConfig) -> Iterator[Finding]:
    fix = "add data.split.validation: 0.1, or an eval_loader"
    if config.callbacks.early_stopping is not None:
        yield fault("callbacks.early_stopping", "early stopping needs rows to evaluate on", fix)
    if config.icl_tasks:
        yield fault("icl_tasks", "icl_tasks are measured with the held-out rows, and there are none", fix)
    default = FinetuneConfig(model=config.model, train_loader=config.train_loader)
    for key in ("eval_interval", "device_eval_batch_size"):
        if getattr(config, key) != getattr(default, key):
            yield no_effect(key, f"there are no rows to evaluate on; {fix}")


def _model(config: FinetuneConfig) -> Iterator[Finding]:
    model = config.model
    if model.adapter is not None and model.peft_config is not None:
        message = "model.adapter and model.peft_config are both given: the adapter has its own shape"
        yield fault("model.adapter", message, "keep one of them")
    if model.quantization is not None and model.peft_config is None and model.adapter is None:
        message = "quantised weights cannot be trained, only an adapter beside them"
        yield fault("model.quantization", message, "add model.peft_config: {r: 16}")
    if not model.pretrained and model.adapter is not None:
        yield fault("model.pretrained", "an adapter continues a pretrained model", "remove pretrained: false")
    if not model.pretrained and model.quantization is not None:
        yield fault("model.pretrained", "random weights cannot be loaded in few bits", "remove quantization")
    quantization = model.quantization
    if quantization is not None and quantization.bits == 8:
        for name in ("quant_type", "double_quant"):
            if getattr(quantization, name) != getattr(QuantizationConfig(), name):
                yield no_effect(f"model.quantization.{name}", "it belongs to 4 bits")
    yield from check_revision(model.pretrained_model_name_or_path, model.revision)
    if model.peft_config is not None:
        yield from check_peft(model.peft_config)


def _tokenizer(config: FinetuneConfig) -> Iterator[Finding]:
    if "trust_remote_code" in config.tokenizer.kwargs:
        message = "trust_remote_code is a key of the model, and holds for its tokenizer too"
        yield fault("tokenizer.kwargs.trust_remote_code", message, "write model.trust_remote_code: true, or remove it")


_CHECKS: tuple[Callable[[FinetuneConfig], Iterator[Finding]], ...] = (
    _model,
    _tokenizer,
    _datasets,
    _evaluation,
    *CAUSAL_CHECKS,
)
