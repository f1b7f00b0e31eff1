"""llm-foundry's evaluation files (`scripts/eval/yamls`): what becomes of the keys that `genai eval` does not have.

`models` becomes `targets`: those that transformers loads, by their reference, and OpenAI's, by their endpoint.
max_seq_len, precision and device_eval_batch_size, which it says once for all models, go into each target.

Source: `EvalConfig` in llmfoundry/utils/config_utils.py (0.22.0), `build_icl_evaluators` in
llmfoundry/utils/builders.py and the constructors of the data sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from genai.config.foundry_answers import Answer, Settled, no_effect, refused, translated
from genai.config.tree import Key, Node, dotted, find, graft, plain

_EVAL = ("eval",)
ICL_JOBS = ("finetune", "pretrain", "eval")
"""Jobs with icl_tasks."""
_NAMES_OF_TASKS = "icl_tasks.*."
_PRECISIONS = {"fp32": "fp32", "amp_bf16": "bf16", "amp_fp16": "auto"}
_SHARED = ("max_seq_len", "precision", "device_eval_batch_size")
"""What is said once for all models."""
_FREE = frozenset(
    (
        *("name", "pretrained_model_name_or_path", "pretrained", "trust_remote_code", "init_device", "use_auth_token"),
        *("use_flash_attention_2", "attn_implementation", "use_train_metrics", "loss_fn", "load_in_8bit"),
        *("pretrained_lora_id_or_path", "config_overrides", "peft_config", "additional_eval_metrics"),
        *("additional_train_metrics", "should_save_peft_only", "allow_embedding_resizing"),
    )
)
"""Keys of llm-foundry's hf_causal_lm; those that would change a score are looked at one by one."""
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_OPENAI = {"openai_chat": "chat", "openai_causal_lm": "completions"}

ANSWERS: tuple[Answer, ...] = (
    translated("becomes icl_tasks", "icl_tasks_str", lambda value: {"icl_tasks": value}, jobs=_EVAL),
    translated("becomes eval_gauntlet", "eval_gauntlet_str", lambda value: {"eval_gauntlet": value}, jobs=_EVAL),
    translated(
        "becomes question_prelimiter",
        f"{_NAMES_OF_TASKS}prelimiter",
        lambda value: {"question_prelimiter": value},
        jobs=ICL_JOBS,
    ),
    *no_effect(
        "progress goes to stderr; --quiet and --debug change how much",
        *("progress_bar", "log_to_console", "console_log_interval", "python_log_level"),
        jobs=_EVAL,
    ),
    *no_effect("the config is always saved in the run directory", "log_config", "metadata", jobs=_EVAL),
    *no_effect("result.json, examples.jsonl and report.html are always written", "loggers", jobs=_EVAL),
    *no_effect("nothing is trained", "callbacks", jobs=_EVAL),
    *no_effect("a model is evaluated in one process", "fsdp_config", "dist_timeout", jobs=_EVAL),
    *no_effect("a target knows how long its texts may be", "tokenizer", f"{_NAMES_OF_TASKS}max_seq_len", jobs=_EVAL),
    *no_effect(
        "texts are not padded, and read from where they are",
        *(f"{_NAMES_OF_TASKS}{name}" for name in ("pad_tok_id", "padding_size", "destination_path")),
        jobs=ICL_JOBS,
    ),
    *refused("it is said of a target", "write target: {model: ..., max_model_len: 1024}", "max_seq_len", jobs=_EVAL),
    *refused("it is said of a target", "write target: {model: ..., precision: bf16}", "precision", jobs=_EVAL),
    *refused(
        "it is said of a target",
        "write target: {model: ..., batch_size: 4}",
        "device_eval_batch_size",
        jobs=_EVAL,
    ),
    *refused("it has another name", "write target: {model: REFERENCE}", "model", "load_path", jobs=_EVAL),
    *refused(
        "rows are counted, not batches",
        "write limit in each of icl_tasks",
        "icl_subset_num_batches",
        jobs=_EVAL,
        harmless=(None, -1),
    ),
    *refused(
        "texts for perplexity are a data set of their own",
        "write datasets: [{name: NAME, path: FILE, kind: text}]",
        *("eval_loader", "eval_loaders"),
        jobs=_EVAL,
        harmless=(None,),
    ),
    *refused(
        "rows are counted, not batches",
        "write limit in each of datasets",
        "eval_subset_num_batches",
        jobs=_EVAL,
        harmless=(None, -1),
    ),
    *refused("a job file runs no Python", "remove it", "code_paths", jobs=_EVAL, harmless=(None, [])),
    *refused(
        "columns have fixed names here",
        "write the data set as JSON lines with the columns of its kind",
        *(f"{_NAMES_OF_TASKS}{name}" for name in ("hf_loading_vars", "hf_parsing_map")),
        *(f"{_NAMES_OF_TASKS}{name}" for name in ("context_key", "answer_key", "choices_key")),
        jobs=ICL_JOBS,
        harmless=(None, {}),
    ),
    *refused(
        "surrounding white space is always taken away",
        "remove it",
        f"{_NAMES_OF_TASKS}strip_dataset",
        jobs=ICL_JOBS,
        harmless=(True,),
    ),
    *refused(
        "answers are drawn as the target says",
        "write target: {model: ..., sampling: {...}}",
        *(f"{_NAMES_OF_TASKS}{name}" for name in ("generation_kwargs", "num_beams")),
        jobs=ICL_JOBS,
        harmless=(None, {}),
    ),
)
"""For a key the first one that fits it counts."""


def settle_models(tree: Node) -> tuple[Node, list[Settled]]:
    """Turn `models` into `targets`, and what is said once for all models with them.

    Returns:
        the tree without them, and what was answered.
    """
    models = find(tree, ("models",))
    if not isinstance(tree.value, dict) or models is None or not isinstance(models.value, list):
        return tree, []
    shared = {name: tree.value[name] for name in _SHARED if name in tree.value}
    settled = list(_shared_faults(shared))
    values = _shared_values(shared)
    targets: dict[str, Node] = {}
    for number, node in enumerate(models.value):
        faults = list(_faults(node, ("models", number)))
        settled += faults
        if not faults:
            targets[_name(node, number, targets)] = graft({**_target(node), **values}, node.origin)
    kept = {name: node for name, node in tree.value.items() if name not in (*_SHARED, "models")}
    if targets and "targets" not in kept:
        kept["targets"] = Node(dict(targets), models.origin)
        why = "becomes targets, with max_seq_len, precision and device_eval_batch_size in each"
        answer = translated(why, "models", lambda value: None, jobs=_EVAL)
        replacement = {"targets": plain(kept["targets"])}
        settled.append(Settled(key=("models",), node=models, answer=answer, replacement=replacement))
        settled += (_with_models(name, node) for name, node in shared.items())
    return replace(tree, value=kept), settled


def _with_models(name: str, node: Node) -> Settled:
    answer = translated("it stands in each of targets", name, lambda value: None, jobs=_EVAL)
    return Settled(key=(name,), node=node, answer=answer)


def _shared_faults(shared: dict[str, Node]) -> Iterator[Settled]:
    precision = shared.get("precision")
    if precision is not None and precision.value not in _PRECISIONS:
        # Of a reference (when a file is converted) it is not known what it will be.
        yield _refusal(("precision",), precision, f"there is no {precision.value}", "write amp_bf16 or fp32")


def _shared_values(shared: dict[str, Node]) -> dict[str, Any]:
    values = {name: plain(node) for name, node in shared.items()}
    found: dict[str, Any] = {}
    if "max_seq_len" in values:
        found["max_model_len"] = values["max_seq_len"]
    if "device_eval_batch_size" in values:
        found["batch_size"] = values["device_eval_batch_size"]
    if values.get("precision") in _PRECISIONS:
        found["precision"] = _PRECISIONS[values["precision"]]
    return found


def _faults(node: Node, key: Key) -> Iterator[Settled]:
    """Why a model cannot be a target."""
    model = plain(node).get("model") if isinstance(node.value, dict) else None
    if not isinstance(model, dict):
        yield _refusal(key, node, "it has no model", "write model: {name: hf_causal_lm, ...}")
        return
    kind = model.get("name")
    if kind in _OPENAI:
        return
    if kind != "hf_causal_lm":
        why = f"{kind} is none of the models that transformers loads"
        yield _refusal((*key, "model", "name"), _at(node, "model", "name"), why, "export it: genai models export")
        return
    if not isinstance(model.get("pretrained_model_name_or_path"), str):
        yield _refusal(
            (*key, "model"), _at(node, "model"), "it names no weights", "write pretrained_model_name_or_path"
        )
    if plain(node).get("load_path"):
        why = "Composer's checkpoints are not read"
        yield _refusal(
            (*key, "load_path"), _at(node, "load_path"), why, "convert it to a folder that transformers loads"
        )
    changes = {
        "pretrained_lora_id_or_path": "an adapter is not a model of its own here",
        "peft_config": "an adapter is not a model of its own here",
        "load_in_8bit": "bitsandbytes is not what 8 bits mean here",
        "config_overrides": "a model is evaluated as it is",
    }
    for name in model:
        if (name in changes and model[name]) or (name == "pretrained" and model[name] is False):
            why = changes.get(name, "random weights are not evaluated")
            fix = "write precision: int8" if name == "load_in_8bit" else "export the model, and name the folder"
            yield _refusal((*key, "model", name), _at(node, "model", name), why, fix)
        elif name not in _FREE:
            why = "llm-foundry's hf_causal_lm does not have it"
            yield _refusal((*key, "model", name), _at(node, "model", name), why, "remove it")


def _target(node: Node) -> dict[str, Any]:
    model = plain(node)["model"]
    if model["name"] in _OPENAI:
        return {
            "endpoint": model.get("base_url") or "https://api.openai.com/v1",
            "model": model.get("version") or str(plain(node).get("model_name", "")).rpartition("/")[2],
            "api": _OPENAI[model["name"]],
            "api_key": "env:OPENAI_API_KEY",
        }
    target = {"model": model["pretrained_model_name_or_path"]}
    return {**target, "trust_remote_code": True} if model.get("trust_remote_code") is True else target


def _name(node: Node, number: int, taken: dict[str, Node]) -> str:
    """Of a target: the last part of model_name in letters and digits, with a number where that is taken."""
    written = str(plain(node).get("model_name") or plain(node)["model"].get("pretrained_model_name_or_path", ""))
    last = written.rstrip("/").rpartition("/")[2].rpartition(":")[2]
    name = _NO_NAME.sub("-", last).strip("-") or "model"
    return name if name not in taken else f"{name}-{number + 1}"


def _at(node: Node, *key: str) -> Node:
    return find(node, key) or node


def _refusal(key: Key, node: Node, why: str, fix: str) -> Settled:
    answer = next(refused(why, fix, dotted(key), jobs=_EVAL))
    return Settled(key=key, node=node, answer=answer)
