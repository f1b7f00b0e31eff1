"""Low-rank adapters (LoRA, DoRA, rank-stabilised) by peft: put on, gone on with, saved, merged.

They go on causal language models, on encoders of which the token vectors are wanted, and on sequence classifiers, whose
head is small and often new, and so is trained and saved whole.

Source: LoRA arXiv:2106.09685, DoRA arXiv:2402.09353, rsLoRA arXiv:2312.03732, PiSSA arXiv:2404.02948.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from genai.config.training import PeftConfig
from genai.errors import DataError, MissingExtraError, UsageError
from genai.models.quiet import quiet_peft
from genai.models.references import ResolvedModel
from genai.registry import suggest
from genai.storage import atomic

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

Task = Literal["CAUSAL_LM", "FEATURE_EXTRACTION", "SEQ_CLS"]
"""What the model gives: logits of the next token, token vectors, or scores of a text; the names are peft's."""
BASE_FILE = "genai-base.json"
"""Beside an adapter: which weights it was trained on."""
_MUTATING_INITS = ("pissa", "olora")
"""Ways to start that also change the base weights, so that the adapter alone would be lost without them."""


def check_target_modules(model: torch.nn.Module, peft: PeftConfig, *, task: Task = "CAUSAL_LM") -> list[str]:
    """The full names of the layers that get an adapter; works on a model on the meta device.

    Args:
        model: any model of transformers.
        peft: the job's adapter.
        task: what the model gives; `all-linear` leaves out what has no part in it, and what is trained whole.

    Raises:
        UsageError: a name matches nothing, or something that is no linear layer; says which names there are.
    """
    linear = _linear_names(model)
    if peft.use_dora and peft.init_lora_weights in _MUTATING_INITS:
        raise UsageError(f"use_dora does not go with init_lora_weights: {peft.init_lora_weights}")
    for name in peft.modules_to_save or []:
        _check_matches(model, name, "modules_to_save")
    targets = peft.target_modules
    if targets == "all-linear":
        left_out = _left_out(model, task)
        return [name for name in linear if model.get_submodule(name) not in left_out]
    if isinstance(targets, str):
        try:
            chosen = [name for name, _ in model.named_modules() if re.fullmatch(targets, name)]
        except re.error as error:
            raise UsageError(f"target_modules: {targets!r} is no regular expression ({error})") from error
        if not chosen:
            raise _no_match(targets, "target_modules", linear)
    else:
        chosen = [name for target in targets for name in _check_matches(model, target, "target_modules")]
    for name in chosen:
        if name not in linear and not _is_embedding(model.get_submodule(name)):
            inside = sorted({other.rpartition(".")[2] for other in linear if other.startswith(f"{name}.")})
            fix = f"it holds {', '.join(inside)}" if inside else f"there are {_short(linear)}"
            raise UsageError(f"target_modules: '{name}' is no linear layer", fix=fix)
    return chosen


def add_adapter(model: PreTrainedModel, peft: PeftConfig, *, task: Task = "CAUSAL_LM") -> PeftModel:
    """Put a fresh adapter on `model`, which is changed in place: all else is frozen.

    With the default start the outputs do not change; `pissa` and `olora` move part of the base weights into the
    adapter.

    Args:
        model: of transformers.
        peft: the job's adapter.
        task: what the model gives. The head of a `SEQ_CLS` model is trained and saved whole, as modules_to_save are.

    Raises:
        UsageError: a name in `peft` does not fit the model.
    """
    targets = check_target_modules(model, peft, task=task)
    config = _lora_config(model, peft, task, targets)
    get_peft_model = _peft("get_peft_model")
    with quiet_peft():
        adapted: Any = get_peft_model(model, config)
    if peft.init_lora_weights in _MUTATING_INITS:
        adapted.genai_initial = {name: tensor.detach().clone() for name, tensor in _lora_state(adapted).items()}
    return cast("PeftModel", adapted)


def continue_adapter(model: PreTrainedModel, path: Path, *, base: ResolvedModel | None = None) -> PeftModel:
    """Put the saved adapter at `path` on `model` and go on training it; its shape is what it was.

    Args:
        model: the base it was trained on.
        path: a folder with adapter_config.json and adapter_model.safetensors.
        base: what `model` was loaded from, to compare with what the adapter was trained on.

    Raises:
        DataError: the adapter does not fit this model, was trained on other weights, or is damaged.
    """
    return _load_adapter(model, path, base=base, trainable=True)


def merge_adapter(model: PreTrainedModel, path: Path, *, base: ResolvedModel | None = None) -> PreTrainedModel:
    """`model` with the saved adapter at `path` added into its weights, in float32."""
    return merge(_load_adapter(model, path, base=base, trainable=False))


def merge(model: PeftModel) -> PreTrainedModel:
    """The plain model with the adapter added into its weights, in float32 whatever they were in; `model` is used up.

    A base that was cast to bfloat16 for training stays rounded: to get every bit of the original weights, save the
    adapter and `merge_adapter` it into the base loaded anew.
    """
    with quiet_peft():
        return cast("PreTrainedModel", model.float().merge_and_unload(safe_merge=True))


def save_adapter(model: PeftModel, folder: Path, *, base: ResolvedModel) -> None:
    """Write the adapter alone, as peft reads it, and what its base was.

    Args:
        model: holds the adapter.
        folder: made, or replaced as a whole.
        base: what the base was loaded from.
    """
    import torch
    from safetensors.torch import save_file

    config, state = model.peft_config["default"].to_dict(), adapter_state(model)
    if (initial := getattr(model, "genai_initial", None)) is not None:
        config, state = _as_plain_lora(config, state, initial)
    config |= {"base_model_name_or_path": base.hub_id or base.reference, "inference_mode": True}
    with atomic.atomic_directory(folder, existing="replace") as scratch:
        # cloned, because the file format knows no tensors that share memory, as tied embeddings do
        whole = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
        save_file(whole, scratch / "adapter_model.safetensors")
        atomic.write_text(scratch / "adapter_config.json", json.dumps(config, indent=2, default=sorted) + "\n")
        # safetensors writes for the owner only, whatever the umask is
        shutil.copymode(scratch / "adapter_config.json", scratch / "adapter_model.safetensors")
        recorded = {"reference": base.reference, "weights": base.weights_fingerprint}
        atomic.write_json(scratch / BASE_FILE, recorded)


def adapter_state(model: PeftModel) -> dict[str, torch.Tensor]:
    """The adapter's tensors on the CPU, by the names peft saves them under."""
    state = _peft("get_peft_model_state_dict")(model, save_embedding_layers=False)
    return {name: tensor.detach().cpu() for name, tensor in state.items()}


def trainable_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that training moves, by name (a tied one once): all that a checkpoint must hold of the model."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _load_adapter(model: PreTrainedModel, path: Path, *, base: ResolvedModel | None, trainable: bool) -> PeftModel:
    from safetensors import SafetensorError

    weights = path / "adapter_model.safetensors"
    if not weights.is_file():  # peft would go on to look for a pickle, and on the hub
        raise DataError("adapter_model.safetensors is missing", where=str(path))
    if base is not None:
        _check_base(path, base)
    try:
        with quiet_peft():
            loaded = _peft("PeftModel").from_pretrained(model, path, is_trainable=trainable)
        missing = _missing_tensors(loaded, weights)
    except SafetensorError as error:
        raise DataError(f"the adapter is damaged ({error})", where=str(path)) from error
    except (ValueError, RuntimeError, OSError, KeyError, TypeError) as error:
        first = next((line.strip() for line in str(error).splitlines() if "size mismatch" in line), str(error))
        raise DataError(
            f"the adapter does not fit this model: {first.splitlines()[0]}",
            where=str(path),
            fix="use the base model it was trained on",
        ) from error
    if missing:
        raise DataError(f"the adapter lacks {len(missing)} tensors, e.g. {missing[0]}", where=str(path))
    return cast("PeftModel", loaded)


def _missing_tensors(model: PeftModel, weights: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        return sorted(set(adapter_state(model)) - set(file.keys()))


def _check_base(path: Path, base: ResolvedModel) -> None:
    try:
        recorded = json.loads((path / BASE_FILE).read_text())
    except FileNotFoundError:
        return  # an adapter of another tool does not say
    if recorded["weights"] != base.weights_fingerprint:
        raise DataError(
            f"the adapter was trained on other weights ({recorded['reference']}) than {base.reference}",
            where=str(path),
            fix=f"set the model to {recorded['reference']}",
        )


def _lora_config(model: PreTrainedModel, peft: PeftConfig, task: Task, targets: list[str]) -> LoraConfig:
    # What peft takes for all-linear has poolers in it that nothing passes through.
    by_name = task != "CAUSAL_LM" and peft.target_modules == "all-linear"
    heads = _head_names(model) if task == "SEQ_CLS" else []
    config = _peft("LoraConfig")(
        task_type=task,
        r=peft.r,
        lora_alpha=peft.lora_alpha,
        lora_dropout=peft.lora_dropout,
        target_modules=targets if by_name else peft.target_modules,
        modules_to_save=[*(peft.modules_to_save or []), *heads] or None,
        use_dora=peft.use_dora,
        use_rslora=peft.use_rslora,
        bias=peft.bias,
        init_lora_weights=peft.init_lora_weights,
        ensure_weight_tying=_touches_tied_embeddings(model, peft, targets),
    )
    return cast("LoraConfig", config)


def _as_plain_lora(
    config: dict[str, Any], state: dict[str, torch.Tensor], initial: dict[str, torch.Tensor]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """An adapter whose start changed the base, as one of twice the rank on the untouched base.

    s·B·A on W - s·B0·A0 is the same as s·[B, -B0]·[A; A0] on W.
    """
    import torch

    doubled = dict(state)
    for name, tensor in state.items():
        if name in initial:
            start = initial[name].to(tensor)
            is_a = ".lora_A." in name or ".lora_embedding_A" in name
            doubled[name] = torch.cat([tensor, start] if is_a else [tensor, -start], dim=0 if is_a else 1)
    scale = math.sqrt(2) if config["use_rslora"] else 2
    changed = {"r": 2 * config["r"], "lora_alpha": config["lora_alpha"] * scale, "init_lora_weights": True}
    return {**config, **changed}, doubled


def _lora_state(model: PeftModel) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in adapter_state(model).items() if ".lora_A" in name or ".lora_B" in name}


def _peft(name: str) -> Any:
    try:
        import peft
    except ModuleNotFoundError as error:
        raise MissingExtraError("peft", extra="train", needed_for="an adapter") from error
    return getattr(peft, name)


def _touches_tied_embeddings(model: PreTrainedModel, peft: PeftConfig, targets: list[str]) -> bool:
    """Whether a layer that shares its weights with another one is trained, so that both must move together."""
    saved = [name for target in peft.modules_to_save or [] for name in _check_matches(model, target, "modules_to_save")]
    output = _output_embeddings(model)
    shared = (model.get_input_embeddings(), output)
    # An encoder's config says that it ties its embeddings even where there is nothing to tie them to.
    tied = output is not None and bool(getattr(model.config, "tie_word_embeddings", False))
    return tied and any(model.get_submodule(name) in shared for name in [*targets, *saved])


def _output_embeddings(model: torch.nn.Module) -> torch.nn.Module | None:
    """The layer that makes logits of token vectors; None where a model has none."""
    find: Any = getattr(model, "get_output_embeddings", None)
    head: torch.nn.Module | None = None if find is None else find()
    return head


def _left_out(model: torch.nn.Module, task: Task) -> set[torch.nn.Module]:
    """Layers that `all-linear` does not mean."""
    if task == "CAUSAL_LM":
        head = _output_embeddings(model)
        return set() if head is None else {head}
    if task == "SEQ_CLS":
        whole = [model.get_submodule(name) for name in _head_names(model)]
    else:
        # Token vectors do not pass through it.
        whole = [module for name, module in model.named_modules() if name.rpartition(".")[2] == "pooler"]
    return {layer for module in whole for layer in module.modules()}


def _head_names(model: torch.nn.Module) -> list[str]:
    """The parts of a sequence classifier that come after the token vectors: all that lies beside its base, and the
    base's own pooler, which a checkpoint of an encoder often lacks.
    """
    base = str(getattr(model, "base_model_prefix", ""))
    parts = dict(model.named_children())
    beside = [name for name, part in parts.items() if name != base and next(part.parameters(), None) is not None]
    has_pooler = getattr(parts.get(base), "pooler", None) is not None
    return [*beside, *([f"{base}.pooler"] if has_pooler else [])]


def _linear_names(model: torch.nn.Module) -> list[str]:
    import torch
    from transformers.pytorch_utils import Conv1D

    return [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)]


def _is_embedding(module: torch.nn.Module) -> bool:
    import torch

    return isinstance(module, torch.nn.Embedding)


def _check_matches(model: torch.nn.Module, target: str, key: str) -> list[str]:
    names = [name for name, _ in model.named_modules() if name]
    found = [name for name in names if name == target or name.endswith(f".{target}")]
    if not found:
        raise _no_match(target, key, _linear_names(model) if key == "target_modules" else names)
    return found


def _no_match(target: str, key: str, names: list[str]) -> UsageError:
    last_parts = sorted({name.rpartition(".")[2] for name in names if not name.rpartition(".")[2].isdigit()})
    near = suggest(target.rpartition(".")[2], last_parts)
    fix = f"did you mean '{near}'?" if near else f"there are {_short(last_parts)}"
    return UsageError(f"{key}: '{target}' matches nothing in this model", fix=fix)


def _short(names: list[str]) -> str:
    parts = sorted({name.rpartition(".")[2] for name in names})
    return ", ".join(parts[:12]) + (", ..." if len(parts) > 12 else "")
