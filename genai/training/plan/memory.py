"""Peak memory of a training run by part, before it starts.

Weights, gradients, optimizer state, activations and copies are read off a simulated step (`simulate`), which is played
back to a model of the allocator (`heap`) for the holes. Only what lies outside of tensors is a measured number, and is
named so.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from genai.config.finetune import FinetuneConfig
from genai.config.training import PeftConfig
from genai.errors import GenaiError
from genai.models.adapters import add_adapter
from genai.models.quiet import quiet_transformers
from genai.models.references import resolve_adapter
from genai.training.activation_checkpointing import checkpoint_activations
from genai.training.plan.heap import Heap
from genai.training.plan.simulate import PHASES, Shape, Trace, simulate_step
from genai.training.precision import frozen_dtype

_LIBRARIES_BYTES = {"cpu": 48 << 20, "cuda": 512 << 20}
"""Measured: code and tables that are first touched in training, kernels' working memory; on a GPU the context and
cuBLAS."""
_TOKENIZER_BYTES_A_TOKEN = 1 << 10
"""Measured: a tokenizer of the tokenizers package takes about this much for each entry of its vocabulary."""
_UNSEEN_BYTES = 1 << 10
"""Smaller blocks come from lists of their own and leave no holes."""


class UnpredictableError(GenaiError):
    """The model cannot be simulated; it may well be trained."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Predicted peak: on a CPU above the process with everything imported, on a GPU all that is taken there."""

    parts: Mapping[str, int]
    """Bytes by part, at the moment of the peak."""
    moment: str
    """When that is: `loading`, `forward`, `backward` or `optimizer step`."""

    @property
    def total_bytes(self) -> int:
        """All parts together."""
        return sum(self.parts.values())


def predict(
    meta_model: nn.Module, config: FinetuneConfig, *, microbatch_size: int, seq_len: int, device: torch.device
) -> MemoryPlan:
    """The peak of a job's training, and what it consists of.

    Args:
        meta_model: the plain model on the meta device; left as it is.
        config: the job.
        microbatch_size: rows of a forward pass.
        seq_len: longest row in tokens.
        device: where it will run.

    Raises:
        UnpredictableError: the model goes by values that a simulation does not have.
    """
    shape = Shape(microbatch_size, seq_len, packed=config.train_loader.dataset.packing_ratio is not None)
    try:
        model = imagine_model(meta_model, config)
        trace = simulate_step(model, shape, precision=config.precision, optimizer=config.optimizer, device=device)
    except Exception as error:  # whatever a model's own code raises when its tensors have no values
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UnpredictableError(f"the memory of {type(meta_model).__name__} cannot be predicted: {reason}") from error
    held = _held(model, trace, config)
    held["libraries"] = _LIBRARIES_BYTES[device.type]
    if device.type == "cpu":
        held["tokenizer"] = _TOKENIZER_BYTES_A_TOKEN * _text_config(meta_model).vocab_size
    replay = _Replay(trace, device, accumulate=microbatch_size < config.global_train_batch_size)
    running = _plan(replay.moment, {**held, **replay.parts})
    loading = _plan("loading", {**held, **_loading(meta_model, config, device)})
    return max(running, loading, key=lambda plan: plan.total_bytes)


def imagine_model(meta_model: nn.Module, config: FinetuneConfig) -> nn.Module:
    """A copy of `meta_model` as the job trains it: with its attention, adapter, frozen weights and checkpointing."""
    model: Any = copy.deepcopy(meta_model)
    with quiet_transformers():
        # Flash attention keeps what sdpa keeps, and may be missing here.
        model.set_attn_implementation(config.model.attn_implementation.replace("flash_attention_2", "sdpa"))
    peft = _peft_of(config)
    if peft is not None:
        model = add_adapter(model, replace(peft, init_lora_weights=True))
    if config.activation_checkpointing:
        checkpoint_activations(model)
    imagined: nn.Module = model
    return imagined


def _peft_of(config: FinetuneConfig) -> PeftConfig | None:
    if config.model.adapter is None:
        return config.model.peft_config
    folder = resolve_adapter(config.model.adapter, runs_dir=config.runs_dir)
    values = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    known = {each.name for each in fields(PeftConfig)}
    return PeftConfig(**{name: value for name, value in values.items() if name in known})


def _held(model: nn.Module, trace: Trace, config: FinetuneConfig) -> dict[str, int]:
    """What lies in memory all the time."""
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    frozen_bytes = frozen_dtype(config.precision).itemsize * sum(parameter.numel() for parameter in frozen)
    parts = {"weights": trace.weight_bytes - frozen_bytes, "frozen weights": frozen_bytes}
    if config.model.quantization is not None:
        linear = {module.weight for module in model.modules() if isinstance(module, nn.Linear)}.intersection(frozen)
        saved_bits = 8 * frozen_dtype(config.precision).itemsize - config.model.quantization.bits
        parts["frozen weights"] -= sum(weight.numel() for weight in linear) * saved_bits // 8
    return parts


def _loading(meta_model: nn.Module, config: FinetuneConfig, device: torch.device) -> dict[str, int]:
    """Weights come in float32 and are then cast; the file that they lie in is mapped into memory meanwhile."""
    numel = sum(p.numel() for p in meta_model.parameters())
    loaded = {"weights": 0, "frozen weights": 0, "loaded weights": 4 * numel}
    if device.type != "cpu" or not config.model.pretrained:
        return loaded
    file_dtype = getattr(meta_model.config, "dtype", None) or torch.float32
    if file_dtype != torch.float32:
        return {**loaded, "model file": file_dtype.itemsize * numel}
    cast_bytes = frozen_dtype(config.precision).itemsize * numel
    return {**loaded, "loaded weights": 0 if _peft_of(config) is None else cast_bytes, "model file": 4 * numel}


def _plan(moment: str, parts: Mapping[str, int]) -> MemoryPlan:
    return MemoryPlan(moment=moment, parts={name: size for name, size in parts.items() if size > 0})


def _text_config(model: Any) -> Any:
    return model.config.get_text_config()


class _Replay:
    """Two steps made from the trace of one: the second meets the optimizer's state and the holes that the first left.

    Args:
        trace: of a step of one microbatch.
        device: decides which allocator.
        accumulate: a step has several microbatches, each after the first with gradients in memory.
    """

    def __init__(self, trace: Trace, device: torch.device, *, accumulate: bool) -> None:
        # In glibc a block's header is 16 bytes, and it is aligned to 64 with 96 more; all rounded to 64 here.
        self._heap = Heap(granule=64, margin=128) if device.type == "cpu" else Heap(granule=512, margin=0)
        self._trace = trace
        self._live: Counter[str] = Counter()
        self._peak: Counter[str] = Counter()
        self._present: set[int] = set()
        self._passing: list[int] = []
        self.moment = PHASES[0]
        for _ in range(2):
            for _ in range(2 if accumulate else 1):
                self._play("forward")
                self._play("backward")
            self._play("optimizer step")
            self._release_gradients()

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by kind at the peak, and the holes."""
        return {**self._peak, "allocator": max(0, self._heap.extent_bytes - self._peak.total())}

    def _play(self, phase: str) -> None:
        self._heap.pinning = phase == "forward"
        for event in self._trace.events[phase]:
            if event < 0:
                self._release(~event, ~event)
                continue
            self._drop_passing()
            if event not in self._present:
                self._allocate(event, event, phase)
            elif self._trace.kinds[event] == "gradients":
                # Added to the one that is there, and gone.
                self._allocate(~event, event, phase)
                self._passing.append(event)
        self._drop_passing()
        self._heap.unpin()

    def _allocate(self, key: int, number: int, phase: str) -> None:
        kind, size = self._trace.kinds[number], self._trace.sizes[number]
        self._present.add(key)
        self._live[kind] += size
        if size >= _UNSEEN_BYTES:
            self._heap.allocate(key, size)
        if self._live.total() > self._peak.total():
            self._peak, self.moment = self._live.copy(), phase

    def _release(self, key: int, number: int) -> None:
        self._present.remove(key)
        self._live[self._trace.kinds[number]] -= self._trace.sizes[number]
        if self._trace.sizes[number] >= _UNSEEN_BYTES:
            self._heap.release(key)

    def _drop_passing(self) -> None:
        for number in self._passing:
            self._release(~number, number)
        self._passing.clear()

    def _release_gradients(self) -> None:
        for number in [each for each in self._present if self._trace.kinds[each] == "gradients"]:
            self._release(number, number)
