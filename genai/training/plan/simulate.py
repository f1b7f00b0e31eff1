"""A training step without data: every tensor's size and lifetime, none of its values.

The model runs forward and backward and the optimizer steps on torch's fake tensors, which carry shapes only; what is
allocated and released is written down. So the prediction follows the code that will run, for any model of transformers,
with adapters, checkpointing and autocast as they are. (A compiled block keeps less than an eager one; that is not seen
here.)

Shapes: B rows, S positions, N = B * S, D hidden size, V vocabulary.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genai.config.training import OptimizerConfig
from genai.training.documents import PackedPositions, Tokens, likely_packing
from genai.training.loss import default_chunk_tokens, linear_cross_entropy
from genai.training.optimizers import build_optimizer
from genai.training.precision import autocast, prepare_model

PHASES = ("forward", "backward", "optimizer step")
"""What a step consists of."""


@dataclass(frozen=True)
class Shape:
    """What a forward pass is given."""

    microbatch: int
    seq_len: int
    packed: bool = False
    """Whether a row holds several documents."""


@dataclass(kw_only=True)
class Trace:
    """The allocations of a step of one microbatch, starting with weights in memory and nothing else."""

    weight_bytes: int
    """Parameters and buffers, each in the number format it is held in."""
    sizes: list[int] = field(default_factory=list)
    """Bytes of each allocation."""
    kinds: list[str] = field(default_factory=list)
    """What it is for: activations, logits, weight copies, temporaries, gradients, optimizer."""
    events: dict[str, list[int]] = field(default_factory=lambda: {phase: [] for phase in PHASES})
    """By phase: n makes allocation number n, ~n releases it. Gradients and the optimizer's state are not released."""


def simulate_step(
    meta: nn.Module, shape: Shape, *, precision: str, optimizer: OptimizerConfig, device: torch.device
) -> Trace:
    """Trace a step.

    Args:
        meta: the model on the meta device, with its adapter and with checkpointing switched on or off; left as it is.
        shape: rows and tokens of the forward pass.
        precision: `amp_bf16` or `fp32`.
        optimizer: the job's.
        device: where the step would run.

    Raises:
        Exception: of many kinds, when the model goes by the values of its tensors or has kernels without a rule for
        shapes.
    """
    model = copy.deepcopy(meta)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device(device):
        _imagine(model, device)
        prepare_model(model, precision)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        recorder = _Recorder([*model.parameters(), *model.buffers()])
        with recorder:
            loss = _forward(model, shape, recorder, precision, device)
            recorder.enter("backward", "temporaries")
            loss.backward()
            del loss
            recorder.rename((p.grad for p in trained if p.grad is not None), "gradients")
            recorder.enter("optimizer step", "temporaries")
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            stepper = build_optimizer(optimizer, model, device=device)
            stepper.step()
            recorder.rename((each for state in stepper.state.values() for each in state.values()), "optimizer")
        recorder.close()
    return recorder.trace


class _Recorder(TorchDispatchMode):
    """Writes down what is allocated and released while it is entered."""

    def __init__(self, weights: Iterable[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._weights = {each.untyped_storage()._cdata: each.untyped_storage() for each in weights}
        self._phase, self._kind = PHASES[0], "activations"
        self._numbers: dict[int, int] = {}
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self.trace = Trace(weight_bytes=sum(storage.nbytes() for storage in self._weights.values()))

    def enter(self, phase: str, kind: str) -> None:
        """What is allocated from now on belongs to `phase` and is of `kind`."""
        self._phase, self._kind = phase, kind

    def rename(self, tensors: Iterable[torch.Tensor], kind: str) -> None:
        """Find out later what the memory of `tensors` is for."""
        for tensor in tensors:
            number = self._numbers.get(tensor.untyped_storage()._cdata)
            if number is not None:
                self.trace.kinds[number] = kind

    def close(self) -> None:
        """Whatever is released from now on goes with the simulation, not with the step."""
        self._alive.clear()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = self._run(func, args, kwargs or {})
        kind = self._kind
        if func is torch.ops.aten._to_copy.default and args[0].untyped_storage()._cdata in self._weights:
            kind = "weight copies"
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._add(leaf.untyped_storage(), kind)
        return result

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1.0 if args[0].is_floating_point() else 0
        if func is torch.ops.aten.add.Tensor and self._phase == "backward" and not torch.is_grad_enabled():
            first, second = args
            if isinstance(second, torch.Tensor) and first.shape == second.shape and first.dtype == second.dtype:
                # Two gradients of one tensor: the engine adds plain tensors in place, but not those of a subclass.
                return first
        if func is torch.ops.aten._grouped_mm.default:
            # Experts of a mixture: the kernel takes float32 as well, its rule for shapes does not.
            product = func(*(each.bfloat16() if each.is_floating_point() else each for each in args), **kwargs)
            return product.to(args[0].dtype)
        return func(*args, **kwargs)

    def _add(self, storage: torch.UntypedStorage, kind: str) -> None:
        key = storage._cdata
        if key in self._numbers or key in self._weights:
            return
        self._numbers[key] = len(self.trace.sizes)
        self._alive[key] = weakref.ref(storage, lambda _: self._remove(key))
        self.trace.events[self._phase].append(len(self.trace.sizes))
        self.trace.sizes.append(storage.nbytes())
        self.trace.kinds.append(kind)

    def _remove(self, key: int) -> None:
        del self._alive[key]
        self.trace.events[self._phase].append(~self._numbers.pop(key))


def _imagine(model: nn.Module, device: torch.device) -> None:
    """Replace parameters and buffers by fake tensors on `device`; what was tied stays tied."""
    fakes: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = fakes.setdefault(id(tensor), _fake(tensor, device))  # type: ignore[assignment]
    model.train()


def _fake(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty


def _forward(model: Any, shape: Shape, recorder: _Recorder, precision: str, device: torch.device) -> torch.Tensor:
    """The loss over a batch in which every token is trained, as `CausalLMLoss` computes it."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    zeros_BS = torch.zeros(shape.microbatch, shape.seq_len, dtype=torch.int64)
    targets_N = zeros_BS.flatten()
    tokens = Tokens(input_ids_BS=zeros_BS, position_ids_BS=zeros_BS, starts_BS=zeros_BS, packed=shape.packed)
    arguments = _arguments(base, tokens, device)
    head = _linear_head(base)
    with autocast(precision, device):
        if head is None:
            logits_BSV = base(use_cache=False, **arguments).logits
            recorder.enter("forward", "logits")
            return torch.nn.functional.cross_entropy(logits_BSV.flatten(0, 1).float(), targets_N)
        hidden_ND = base.get_decoder()(use_cache=False, **arguments).last_hidden_state.flatten(0, 1)
        hidden_ND = hidden_ND.index_select(0, targets_N)
        recorder.enter("forward", "logits")
        return linear_cross_entropy(
            hidden_ND,
            head.weight,
            targets_N,
            denominator=1.0,
            chunk_tokens=default_chunk_tokens(device),
            bias_V=head.bias,
        )


def _arguments(base: Any, tokens: Tokens, device: torch.device) -> dict[str, torch.Tensor]:
    packing = likely_packing(base, base.get_decoder(), device)
    arguments = packing.arguments(tokens)
    if isinstance(packing, PackedPositions) and not tokens.packed:
        # Of fake positions transformers cannot tell that they are plain, and would build a mask of S x S.
        arguments.pop("position_ids", None)
    return arguments


def _linear_head(base: Any) -> nn.Linear | None:
    head = base.get_output_embeddings()
    if hasattr(head, "modules_to_save"):
        head = head.modules_to_save[head.active_adapter]
    return head if type(head) is nn.Linear else None
