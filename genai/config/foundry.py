"""Keys of llm-foundry's training files that mean nothing here, or that cannot be carried out: named one by one, with
the reason.

Keys that only steer how a run is watched or fed are passed over with a warning; keys that would change the result are
refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from genai.config.tree import Key, Node, dotted
from genai.errors import Problem

_LOGGED = "it is always logged"
_CONSOLE = "progress goes to stderr; --quiet and --debug change how much"
_FED = "rows are tokenised once and read from memory-mapped files"
_ONE_PROCESS = "training runs in one process"
_VARIABLE = "it is only there to be referred to, which variables is for"

PASSED_OVER = {
    "progress_bar": _CONSOLE,
    "log_to_console": _CONSOLE,
    "console_log_interval": _CONSOLE,
    "python_log_level": _CONSOLE,
    "log_config": "the config is always saved in the run directory",
    "callbacks.speed_monitor": _LOGGED,
    "callbacks.lr_monitor": _LOGGED,
    "callbacks.memory_monitor": _LOGGED,
    "callbacks.runtime_estimator": _LOGGED,
    "*_loader.num_workers": _FED,
    "*_loader.pin_memory": _FED,
    "*_loader.prefetch_factor": _FED,
    "*_loader.persistent_workers": _FED,
    "*_loader.timeout": _FED,
    "*_loader.dataset.allow_pad_trimming": "batches are as long as their longest row",
    "*_loader.dataset.eos_token_id": "the tokenizer knows it",
    "model.init_device": "weights are read straight to where they are needed",
    "model.use_auth_token": "the environment variable HF_TOKEN is used",
    "load_weights_only": "load_path always takes the weights only",
    "dist_timeout": _ONE_PROCESS,
    "expandable_segments": "PyTorch's own default holds",
    "global_seed": _VARIABLE,
    "icl_seq_len": _VARIABLE,
    "icl_max_seq_len": _VARIABLE,
}
"""Pattern of a dotted key -> why it has no effect."""

REFUSED: dict[str, tuple[str, str]] = {
    "fsdp_config": (_ONE_PROCESS, "remove it; activation_checkpointing: true is a key of its own"),
    "tp_config": (_ONE_PROCESS, "remove it"),
    "compile_config": ("torch.compile takes no settings here", "write compile: true"),
    "code_paths": ("a job file runs no Python", "remove it"),
    "icl_tasks": ("in-context tasks are not part of fine-tuning", "remove it"),
    "eval_gauntlet": ("in-context tasks are not part of fine-tuning", "remove it"),
    "eval_subset_num_batches": ("evaluation takes all rows", "write eval_loader.dataset.max_rows"),
    "train_subset_num_batches": ("an epoch takes all rows", "write train_loader.dataset.max_rows"),
    "device_train_grad_accum": ("it follows from the batch sizes", "write device_train_microbatch_size"),
    "device_train_batch_size": ("the batch is that of all devices", "write global_train_batch_size"),
    "model.use_flash_attention_2": ("the kernel has a name", "write attn_implementation: flash_attention_2"),
    "callbacks.hf_checkpointer": ("the model is exported at the end", "see export.formats"),
    "*_loader.dataset.preprocessing_fn": ("a job file runs no Python", "name the columns: format and columns"),
    "*_loader.dataset.streams": ("fine-tuning reads JSONL, Parquet and CSV", "write path: FILE"),
    "*_loader.dataset.local": ("fine-tuning reads JSONL, Parquet and CSV", "write path: FILE"),
    "*_loader.dataset.remote": ("fine-tuning reads JSONL, Parquet and CSV", "write path: FILE"),
    "save_weights_only": ("a checkpoint holds all that a resume needs", "remove it; the model is exported at the end"),
    "profiler": ("there is no profiler", "remove it"),
}
"""Pattern of a dotted key -> why it is not supported, and what to do."""

_EVERYTHING = -1
"""The value of `*_subset_num_batches` that changes nothing."""


def set_aside(tree: Node, key: Key = ()) -> tuple[Node, list[Problem], list[Problem]]:
    """Take out of a job file the keys that only llm-foundry knows.

    Returns:
        the rest of the tree, the refused keys, and the ones passed over.
    """
    if not isinstance(tree.value, dict):
        return tree, [], []
    kept: dict[str, Node] = {}
    refused: list[Problem] = []
    passed_over: list[Problem] = []
    for name, node in tree.value.items():
        path = dotted((*key, name))
        where = node.origin.where()
        if node.value == _EVERYTHING and path.endswith("_subset_num_batches"):
            continue
        if why := next(_matching(PASSED_OVER, path), None):
            passed_over.append(Problem(message=f"{path} has no effect: {why}", where=where))
        elif reason := next(_matching(REFUSED, path), None):
            refused.append(Problem(message=f"{path} is not supported: {reason[0]}", where=where, fix=reason[1]))
        else:
            kept[name], below_refused, below_passed_over = set_aside(node, (*key, name))
            refused += below_refused
            passed_over += below_passed_over
    return replace(tree, value=kept), refused, passed_over


def _matching(table: dict[str, Any], path: str) -> Iterator[Any]:
    return (entry for pattern, entry in table.items() if fnmatchcase(path, pattern))
