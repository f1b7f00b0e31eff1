"""A training step without data: every tensor's size and lifetime, none of its values.

The model runs forward and backward on torch's fake tensors, which carry shapes only; what is alive is added up
operation by operation. So the prediction follows the code that will run, for any model of transformers, with adapters,
checkpointing and autocast as they are, on a device that need not be there.
"""

from __future__ import annotations

import copy
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genai.training.compiling import decoder_blocks
from genai.training.documents import Tokens, likely_packing
from genai.training.loss import default_chunk_tokens, linear_cross_entropy
from genai.training.precision import autocast, prepare_model

PHASES = ("forward", "loss", "backward begins", "backward ends")
"""Where a step's memory can peak: between the last two it changes evenly from block to block."""


@dataclass(frozen=True)
class Shape:
    """What a forward pass is given."""

    microbatch: int
    seq_len: int

    @property
    def positions(self) -> int:
        """Tokens of a forward pass, padding included."""
        return self.microbatch * self.seq_len


@dataclass
class _Phase:
    live: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return sum(self.live.values())


class _Tracker(TorchDispatchMode):
    """Keeps the bytes that are alive by kind, and the largest total of each phase."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kind = "activations"
        self.phase = PHASES[0]
        self.peaks = {phase: _Phase() for phase in PHASES}
        self._live: Counter[str] = Counter()
        self._kinds: dict[int, tuple[str, int]] = {}
        self._weights = {parameter.untyped_storage()._cdata for parameter in parameters}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        kind = self.kind
        if func is torch.ops.aten._to_copy.default and args[0].untyped_storage()._cdata in self._weights:
            kind = "weight copies"
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf.untyped_storage(), kind)
        return result

    def _add(self, storage: torch.UntypedStorage, kind: str) -> None:
        key = storage._cdata
        if key in self._kinds or key in self._weights:
            return
        self._kinds[key] = (kind, storage.nbytes())
        self._live[kind] += storage.nbytes()
        weakref.finalize(storage, self._remove, key)
        self._note()

    def _remove(self, key: int) -> None:
        kind, size = self._kinds.pop(key)
        self._live[kind] -= size

    def rename(self, tensor: torch.Tensor, kind: str) -> None:
        """Count a tensor's memory as another kind from now on."""
        key = tensor.untyped_storage()._cdata
        if key in self._kinds:
            old, size = self._kinds[key]
            self._kinds[key] = (kind, size)
            self._live[old] -= size
            self._live[kind] += size
            self._note()

    def enter(self, phase: str, kind: str) -> None:
        """What is allocated from now on belongs to `phase` and is of `kind`."""
        self.phase, self.kind = phase, kind
        self._note()

    def _note(self) -> None:
        if sum(self._live.values()) > self.peaks[self.phase].total:
            self.peaks[self.phase] = _Phase(self._live.copy())


def simulate_step(
    meta: nn.Module,
    shape: Shape,
    *,
    precision: str,
    device: torch.device,
    accumulate: bool,
    num_blocks: int | None = None,
) -> dict[str, Counter[str]]:
    """Bytes beside weights and optimizer state, by kind, at the peak of each phase of a forward and backward pass.

    Args:
        meta: the model on the meta device, with its adapter and with checkpointing switched on or off; left as it is.
        shape: rows and tokens of the pass.
        precision: `amp_bf16` or `fp32`.
        device: that the step is imagined on.
        accumulate: gradients of an earlier microbatch are there.
        num_blocks: compute only the first ones.
    """
    model = copy.deepcopy(meta)
    if num_blocks is not None:
        _truncate(model, num_blocks)
    with FakeTensorMode(), torch.device(device):
        _imagine(model, device)
        prepare_model(model, precision)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        tracker = _Tracker(list(model.parameters()))
        hooks = [parameter.register_post_accumulate_grad_hook(_count_gradient(tracker)) for parameter in trained]
        with tracker:
            if accumulate:
                tracker.kind = "gradients"
                for parameter in trained:
                    parameter.grad = torch.zeros_like(parameter)
            _forward_backward(model, shape, tracker, precision, device)
        for hook in hooks:
            hook.remove()
    return {phase: peak.live for phase, peak in tracker.peaks.items()}


def _imagine(model: nn.Module, device: torch.device) -> None:
    """Replace parameters and buffers by fake tensors on `device`; what was tied stays tied."""
    fakes: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = fakes.setdefault(id(tensor), _fake(tensor, device))  # type: ignore[assignment]
    model.train()


def _truncate(model: Any, num_blocks: int) -> None:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder = base.get_decoder()
    config = base.config.get_text_config()
    for name, child in decoder.named_children():
        if isinstance(child, nn.ModuleList) and len(child) == config.num_hidden_layers:
            setattr(decoder, name, child[:num_blocks])
            decoder.config.num_hidden_layers = config.num_hidden_layers = num_blocks
            return


def _fake(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty


def _count_gradient(tracker: _Tracker) -> Callable[[torch.Tensor], None]:
    def hook(parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            tracker.rename(parameter.grad, "gradients")

    return hook


def _forward_backward(model: Any, shape: Shape, tracker: _Tracker, precision: str, device: torch.device) -> None:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder, head = base.get_decoder(), base.get_output_embeddings()
    tracker.enter(PHASES[0], "activations")
    zeros_BS = torch.zeros(shape.microbatch, shape.seq_len, dtype=torch.int64)
    packing = likely_packing(base, decoder, device)
    tokens = Tokens(input_ids_BS=zeros_BS, position_ids_BS=zeros_BS, starts_BS=zeros_BS, packed=False)
    first_block = decoder_blocks(decoder)[0]
    mark = first_block.register_forward_hook(lambda module, args, output: _mark_end(output, tracker))
    with autocast(precision, device):
        hidden_BSD = decoder(use_cache=False, **packing.arguments(tokens)).last_hidden_state
    mark.remove()
    hidden_ND = hidden_BSD.flatten(0, 1).index_select(0, zeros_BS.flatten())
    del hidden_BSD
    tracker.enter(PHASES[1], "logits")
    with autocast(precision, device):
        loss = linear_cross_entropy(
            hidden_ND,
            head.weight,
            zeros_BS.flatten(),
            denominator=1.0,
            chunk_tokens=default_chunk_tokens(device),
            bias_V=head.bias,
        )
    del hidden_ND
    tracker.enter(PHASES[2], "backward")
    loss.backward()


def _mark_end(output: Any, tracker: _Tracker) -> None:
    hidden = output[0] if isinstance(output, tuple) else output
    if hidden.requires_grad:
        hidden.register_hook(lambda gradient: tracker.enter(PHASES[3], "backward"))
