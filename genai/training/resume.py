"""What may change between a run and its continuation.

A key falls into one of three classes. `FREE` keys do not touch the weights that a given batch produces. `INEXACT` keys
are sound to change, but the continuation is no longer bit-equal to what an uninterrupted run would have given.
Everything else (the data, their order, the model, the batch) would make the position in the checkpoint meaningless, and
is refused. The same table stands in docs/finetune.md and docs/pretrain.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

FREE = (
    "variables",
    "run_name",
    "runs_dir",
    "max_duration",
    "eval_interval",
    "eval_first",
    "eval_loader",
    "device_eval_batch_size",
    "icl_tasks",
    "loggers",
    "callbacks.webhook",
    "callbacks.early_stopping",
    "callbacks.loss_spike",
    "save_folder",
    "save_interval",
    "save_num_checkpoints_to_keep",
    "autoresume",
    "resume",
    "proofs",
    "compare",
    "export",
    "data.checks",
    "eval_subset_num_batches",
    # Of embed-finetune: how it is measured and what follows; what is read is compared by the data's fingerprint.
    *("evaluation", "then", "search", "data.synthetic_queries.max_usd"),
    "parallel.save_in_background",
    # Where shards lie and how they are kept; what they hold is compared by the data's fingerprint.
    *("train_loader.dataset.remote", "train_loader.dataset.local", "train_loader.dataset.split"),
    *("train_loader.dataset.streams.*.remote", "train_loader.dataset.streams.*.local"),
    *("train_loader.dataset.streams.*.split", "train_loader.dataset.cache_limit"),
    *("train_loader.dataset.predownload", "train_loader.dataset.validate_hash"),
)
INEXACT = (
    "callbacks.nan_guard",
    "optimizer",
    "scheduler",
    "algorithms",
    "device",
    "num_threads",
    "precision",
    "deterministic_mode",
    "compile",
    "activation_checkpointing",
    "device_train_microbatch_size",
    "model.attn_implementation",
    "loss",
    "parallel",
    "fsdp_config",
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A key whose value differs from the one that the checkpoint was made with."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.before!r} -> {self.after!r}"


@dataclass(frozen=True, kw_only=True)
class Changes:
    """All differences, by what they mean for a resume."""

    refused: tuple[Change, ...]
    inexact: tuple[Change, ...]
    free: tuple[Change, ...]


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """Sort the differences of two nested mappings (config and environment of a checkpoint and of now) into the three
    classes.
    """
    found: dict[str, list[Change]] = {"refused": [], "inexact": [], "free": []}
    old, new = dict(_flatten(before)), dict(_flatten(after))
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            found[_class_of(key)].append(Change(key=key, before=old.get(key), after=new.get(key)))
    return Changes(**{name: tuple(changes) for name, changes in found.items()})


def _class_of(key: str) -> str:
    if _below(key, FREE):
        return "free"
    return "inexact" if _below(key, (*INEXACT, "environment")) else "refused"


def _below(key: str, prefixes: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, prefix) or fnmatchcase(key, f"{prefix}.*") for prefix in prefixes)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{path}.")
        else:
            # JSON knows no tuples, so a config that went through a checkpoint has lists.
            yield path, list(value) if isinstance(value, tuple) else value
