"""LoRA adapters as files: what `genai finetune` writes, and what peft writes elsewhere, checked before it is used.

Whatever could not be computed exactly beside the model (DoRA, layers saved whole, embeddings, biases) is refused with
the way out: merge the adapter into its base, and serve that.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.errors import DataError, UsageError
from genai.models.adapters import BASE_FILE
from genai.models.fingerprint import fingerprint
from genai.models.references import ResolvedModel
from genai.registry import suggest

if TYPE_CHECKING:
    import torch

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_NAME = re.compile(r"(?:base_model\.model\.)?(?P<layer>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
_MUTATING_INITS = ("pissa", "olora", "loftq", "corda", "lora_ga")
"""Ways to start that also change the base weights, so that the adapter alone is not enough."""
_NOT_DONE = {
    "use_dora": "it is a DoRA adapter",
    "modules_to_save": "it holds whole layers (modules_to_save)",
    "lora_bias": "it has biases of its own (lora_bias)",
    "trainable_token_indices": "it trains rows of the embeddings (trainable_token_indices)",
    "target_parameters": "it changes parameters that are no linear layer (target_parameters)",
    "layer_replication": "it repeats layers (layer_replication)",
    "alora_invocation_tokens": "it is an activated LoRA (alora_invocation_tokens)",
    "use_qalora": "it is a QALoRA adapter",
    "use_bdlora": "it is a block-diagonal LoRA",
    "arrow_config": "it is a router between adapters (arrow_config)",
    "kasa_config": "it is a KaSA adapter",
    "monteclora_config": "it is a MonteCLoRA adapter",
    "velora_config": "it is a VeLoRA adapter",
}
"""Keys of adapter_config.json that, when set, mean more than a pair of matrices a layer."""


@dataclass(frozen=True, kw_only=True)
class LoraLayer:
    """What an adapter has for one linear layer."""

    a_RI: torch.Tensor
    b_OR: torch.Tensor
    scale: float
    """Factor of the product."""


@dataclass(frozen=True, kw_only=True)
class LoadedAdapter:
    """An adapter that fits a model, in memory."""

    path: Path
    """Its folder."""
    layers: Mapping[str, LoraLayer]
    """By the name of the linear layer in the model of transformers."""
    rank: int
    """The largest of its layers."""

    @cached_property
    def fingerprint(self) -> str:
        """Of its files."""
        return fingerprint(self.path)


def load_adapter(
    path: Path, *, base: ResolvedModel, modules: Mapping[str, tuple[int, int]], max_rank: int
) -> LoadedAdapter:
    """The adapter in the folder `path`, if it can be used beside `base`.

    Args:
        path: with adapter_config.json and adapter_model.safetensors.
        base: the model that it is to be put on.
        modules: linear layers of that model that an adapter may change -> numbers of inputs and outputs.
        max_rank: the largest rank that is taken.

    Raises:
        UsageError: it needs something that is not done beside a model, or is larger than allowed; says what to do.
        DataError: it is for another base, is damaged or incomplete, or would change nothing.
    """
    config = _read_config(path)
    _check_kind(config, path, base)
    _check_base(path, base)
    tensors = _read_tensors(path)
    sides = _pair_up(tensors, path, base)
    _check_modules(sides, modules, path, base)
    _check_targets(config, sides, path)
    layers = {name: _layer(config, name, sides[name], modules[name], path, base) for name in sorted(sides)}
    rank = max(layer.a_RI.shape[0] for layer in layers.values())
    if rank > max_rank:
        raise UsageError(
            f"the adapter has rank {rank}, and max_lora_rank is {max_rank}",
            where=str(path),
            fix=f"set engine.max_lora_rank: {rank}",
        )
    if not any(bool(layer.b_OR.any()) and bool(layer.a_RI.any()) for layer in layers.values()):
        raise DataError(
            "the adapter changes nothing: all of its B matrices are zero, as before the first step of training",
            where=str(path),
            fix="is it a checkpoint from before training, or was the wrong file copied?",
        )
    return LoadedAdapter(path=path, layers=layers, rank=rank)


# --- what the config says ---------------------------------------------------------------------------------------------


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"{CONFIG_FILE} is missing", where=str(path), fix="name the folder of a LoRA adapter"
        ) from error
    except (ValueError, OSError) as error:
        raise DataError(f"{CONFIG_FILE} cannot be read: {error}", where=str(path)) from error
    if not isinstance(config, dict):
        raise DataError(f"{CONFIG_FILE} holds no object", where=str(path))
    return config


def _check_kind(config: Mapping[str, Any], path: Path, base: ResolvedModel) -> None:
    if (kind := config.get("peft_type")) != "LORA":
        raise UsageError(f"the adapter is of the kind {kind}; only LORA can be served beside its base", where=str(path))
    reasons = [reason for key, reason in _NOT_DONE.items() if config.get(key)]
    if (bias := config.get("bias", "none")) != "none":
        reasons.append(f"it trains biases (bias: {bias})")
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(_MUTATING_INITS):
        reasons.append(f"its start moved part of the base's weights into it (init_lora_weights: {init})")
    if reasons:
        raise _merge_first("; ".join(reasons), path, base)


def _merge_first(reason: str, path: Path, base: ResolvedModel) -> UsageError:
    code = f"PeftModel.from_pretrained(model of {base.reference}, '{path}').merge_and_unload().save_pretrained(FOLDER)"
    return UsageError(
        f"the adapter cannot be served beside its base: {reason}",
        where=str(path),
        fix=f"merge it first and serve the whole model: {code}",
    )


def _check_base(path: Path, base: ResolvedModel) -> None:
    try:
        recorded = json.loads((path / BASE_FILE).read_text(encoding="utf-8"))
        weights, reference = recorded["weights"], recorded["reference"]
    except FileNotFoundError:
        return  # an adapter of another tool does not say; its shapes are compared
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DataError(f"{BASE_FILE} cannot be read: {error!r}", where=str(path)) from error
    if weights != base.weights_fingerprint:
        raise DataError(
            f"the adapter was trained on other weights ({reference}) than {base.reference}",
            where=str(path),
            fix=f"put it on an endpoint whose model is {reference}",
        )


def _rank_and_scale(config: Mapping[str, Any], name: str) -> tuple[int, float]:
    """What the config says of a layer; patterns are matched as peft does, the first one wins."""
    rank = _by_pattern(config.get("rank_pattern"), name, config.get("r"))
    alpha = _by_pattern(config.get("alpha_pattern"), name, config.get("lora_alpha"))
    return int(rank), float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(patterns: Mapping[str, Any] | None, name: str, otherwise: Any) -> Any:
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return otherwise


# --- what the tensors are ---------------------------------------------------------------------------------------------


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = path / WEIGHTS_FILE
    if not file.is_file():
        pickled = (path / "adapter_model.bin").is_file()
        fix = "adapter_model.bin is a pickle, which can run code: save it again as safetensors" if pickled else None
        raise DataError(f"{WEIGHTS_FILE} is missing", where=str(path), fix=fix)
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise DataError(f"the adapter is damaged ({error})", where=str(path), fix="copy it again") from error


def _pair_up(
    tensors: Mapping[str, torch.Tensor], path: Path, base: ResolvedModel
) -> dict[str, dict[str, torch.Tensor]]:
    """Layer -> its A and B."""
    sides: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        if (found := _NAME.fullmatch(key)) is None:
            raise _merge_first(f"it holds '{key}', which is no matrix of a LoRA", path, base)
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise DataError(f"'{key}' holds numbers that are not finite", where=str(path), fix="train or copy it again")
        sides.setdefault(found["layer"], {})[found["side"]] = tensor
    if not sides:
        raise DataError(f"{WEIGHTS_FILE} holds no tensors", where=str(path))
    if alone := [name for name, found in sides.items() if len(found) < 2]:
        there = next(iter(sides[alone[0]]))
        raise DataError(f"the adapter has lora_{there} of '{alone[0]}' but not the other matrix", where=str(path))
    return sides


def _check_modules(names: Iterable[str], modules: Mapping[str, object], path: Path, base: ResolvedModel) -> None:
    unknown = [name for name in names if name not in modules]
    if not unknown:
        return
    last = unknown[0].rpartition(".")[2]
    if last in ("lm_head", "embed_out") or "embed" in last:
        raise _merge_first(f"it changes '{unknown[0]}'", path, base)
    near = suggest(unknown[0], modules)
    known = sorted({name.rpartition(".")[2] for name in modules})
    raise DataError(
        f"{len(unknown)} layers of the adapter are not in {base.reference}, e.g. '{unknown[0]}'",
        where=str(path),
        fix=f"near: '{near}'" if near else f"that model has {', '.join(known)}: is the adapter for another base?",
    )


def _check_targets(config: Mapping[str, Any], names: Iterable[str], path: Path) -> None:
    targets = config.get("target_modules")
    if not isinstance(targets, list):
        return
    known = list(names)
    lacking = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in known)]
    if lacking:
        raise DataError(
            f"the adapter says that it changes '{lacking[0]}' but holds nothing for it",
            where=str(path),
            fix="copy it again: the file is not whole",
        )


def _layer(
    config: Mapping[str, Any],
    name: str,
    sides: Mapping[str, torch.Tensor],
    shape: tuple[int, int],
    path: Path,
    base: ResolvedModel,
) -> LoraLayer:
    a_RI, b_OR = sides["A"], sides["B"]
    try:
        rank, scale = _rank_and_scale(config, name)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise DataError(f"{CONFIG_FILE} gives no rank or lora_alpha for '{name}'", where=str(path)) from error
    expected = (rank, shape[0]), (shape[1], rank)
    if (tuple(a_RI.shape), tuple(b_OR.shape)) == expected:
        return LoraLayer(a_RI=a_RI, b_OR=b_OR, scale=scale)
    if a_RI.ndim == b_OR.ndim == 2 and a_RI.shape[0] == b_OR.shape[1] != rank:
        raise DataError(f"'{name}' has rank {a_RI.shape[0]}, and {CONFIG_FILE} says {rank}", where=str(path))
    raise DataError(
        f"the adapter is for another model: '{name}' goes from {a_RI.shape[-1]} to {b_OR.shape[0]} numbers there, "
        f"and from {shape[0]} to {shape[1]} in {base.reference}",
        where=str(path),
        fix="use the base model it was trained on",
    )
