"""LoRA adapters beside one model: many at once, each row of a step with its own or none.

An adapter adds scale * (x A^T) B^T to what a linear layer makes of x. The layers' own weights are never changed, so
that adapters come and go while answers are under way.

Source: LoRA arXiv:2106.09685, rsLoRA arXiv:2312.03732; the files are peft's.

Rows of one adapter lie together and get a pair of products. Where many answers go on, each with another adapter, all
their rows are multiplied with all adapters at once, and what is not theirs is put out between the two products: a few
idle numbers cost less than many small products.

Shapes: T tokens of a step, laid end to end; I and O inputs and outputs of a linear layer; R rank; S ranks of all
adapters of a layer together; N rows of one adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

import torch

from genai.errors import UsageError
from genai.inference.adapter_files import LoadedAdapter, load_adapter
from genai.inference.interfaces import Step

__all__ = ["AdapterBank", "LoadedAdapter", "load_adapter"]


class _Pair(NamedTuple):
    """What one adapter has for one layer; the scale is in B."""

    a_RI: torch.Tensor
    b_RO: torch.Tensor


class _Stack(NamedTuple):
    """What all adapters have for one layer, below one another."""

    a_SI: torch.Tensor
    b_SO: torch.Tensor
    slots_S: torch.Tensor
    """Whose each row is."""
    layout: tuple[tuple[int, int, int], ...]
    """(slot, first row, row behind the last) of each adapter."""


class _Rows(NamedTuple):
    """Neighbouring rows of a step with the same adapter."""

    slot: int
    start: int
    stop: int


_MANY = 3
"""From so many adapters on, answers that go on are multiplied with all adapters at once."""
_SHORT = 12
"""Up to so many rows, products in float32 are quicker on a processor than in bfloat16, whose products take 16 us to
begin; measured with layers of SmolLM2-135M."""
_SMALL = 1 << 16
"""Numbers of a pair; larger ones take longer to read than to begin."""


class AdapterBank:
    """The adapters that one model has in memory.

    Args:
        modules: name of each linear layer that an adapter may change (as in the model of transformers, e.g.
            `model.layers.0.self_attn.q_proj`) -> its numbers of inputs and outputs.
        max_adapters: that requests can name at once; those that were replaced and are still in use come on top.
        max_rank: of an adapter.
        dtype: of the model's products.
        device: where they are computed.
    """

    def __init__(
        self,
        modules: Mapping[str, tuple[int, int]],
        *,
        max_adapters: int,
        max_rank: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        self.modules = modules
        self.max_adapters = max_adapters
        self.max_rank = max_rank
        self._dtype = dtype
        self._device = torch.device(device)
        # A processor begins a small product in float32 at once.
        self._joins = dtype != torch.float32 or self._device.type != "cpu"
        self._pairs: dict[int, dict[str, _Pair]] = {}
        self._stacks: dict[str, _Stack] = {}
        self._short: dict[int, dict[str, _Pair]] = {}
        """In float32, for few rows."""
        self._apart: list[_Rows] = []
        self._together: tuple[int, int] | None = None
        """First row and row behind the last, of those that are multiplied with all adapters."""
        self._slots_T: torch.Tensor | None = None
        self._others: dict[tuple[tuple[int, int, int], ...], torch.Tensor] = {}
        """Layout -> (T, S), True where a row of the step and a row of the stack do not belong together."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no adapter at all."""
        return not self._pairs

    @property
    def active(self) -> bool:
        """Whether any row of this step has an adapter."""
        return bool(self._apart) or self._together is not None

    @property
    def num_bytes(self) -> int:
        """Memory of all adapters."""
        pairs = [pair for kept in (self._pairs, self._short) for held in kept.values() for pair in held.values()]
        return sum(tensor.nbytes for pair in pairs for tensor in pair)

    def add(self, slot: int, adapter: LoadedAdapter) -> None:
        """Make rows of sequences with this `adapter_slot` be changed by `adapter`.

        Args:
            slot: above 0; free.
            adapter: was checked against this bank's modules.
        """
        if slot <= 0 or slot in self._pairs:
            raise ValueError(f"the slot {slot} is not free")
        exact = {
            name: _Pair(lora.a_RI.float(), (lora.b_OR.float() * lora.scale).t().contiguous())
            for name, lora in adapter.layers.items()
        }
        self._pairs[slot] = {
            name: _Pair(*(side.to(self._device, self._dtype) for side in pair)) for name, pair in exact.items()
        }
        if self._dtype != torch.float32 and self._device.type == "cpu":
            small = {name: pair for name, pair in exact.items() if sum(side.numel() for side in pair) <= _SMALL}
            self._short[slot] = small
        self._stack()

    def remove(self, slot: int) -> None:
        """Let go of what `slot` holds; no sequence may use it any more."""
        del self._pairs[slot]
        self._short.pop(slot, None)
        self._stack()

    def begin(self, step: Step) -> None:
        """See which rows of the step have which adapter; called before the layers are."""
        runs: list[_Rows] = []
        at = 0
        for index, part in enumerate(step.parts):
            slot, stop = part.sequence.adapter_slot, at + len(part.token_ids)
            if runs and runs[-1].slot == slot and index != step.num_decodes:
                runs[-1] = runs[-1]._replace(stop=stop)
            else:
                runs.append(_Rows(slot, at, stop))
            at = stop
        adapted = [run for run in runs if run.slot]
        if unknown := [run.slot for run in adapted if run.slot not in self._pairs]:
            raise UsageError(f"there is no adapter in slot {unknown[0]}")
        self._others = {}
        self._together = self._slots_T = None
        going_on = [run for run in adapted if run.stop <= step.num_decodes]
        if self._joins and len(going_on) >= _MANY and 2 * len(going_on) >= len(self._pairs):
            self._together = going_on[0].start, going_on[-1].stop
            slots = [part.sequence.adapter_slot for part in step.parts[slice(*self._together)]]
            self._slots_T = torch.tensor(slots, device=self._device)
            adapted = adapted[len(going_on) :]
        self._apart = adapted

    def apply(self, name: str, x_TI: torch.Tensor, y_TO: torch.Tensor) -> None:
        """Add what the adapters make of a layer's input to its output.

        Args:
            name: of the layer.
            x_TI: (T, I), what goes into the layer.
            y_TO: (T, O), what came out; changed in place.
        """
        if self._together is not None and (stack := self._stacks.get(name)) is not None:
            rows = slice(*self._together)
            all_TS = torch.nn.functional.linear(x_TI[rows], stack.a_SI)
            y_TO[rows].addmm_(all_TS.masked_fill_(self._not_theirs(stack), 0.0), stack.b_SO)
        for slot, start, stop in self._apart:
            x_NI, y_NO = x_TI[start:stop], y_TO[start:stop]
            short = self._short.get(slot) if stop - start <= _SHORT else None
            if short is not None and (pair := short.get(name)) is not None:
                y_NO.add_(torch.nn.functional.linear(x_NI.float(), pair.a_RI) @ pair.b_RO)
            elif (pair := self._pairs[slot].get(name)) is not None:
                y_NO.addmm_(torch.nn.functional.linear(x_NI, pair.a_RI), pair.b_RO)

    def _not_theirs(self, stack: _Stack) -> torch.Tensor:
        """(T, S) for the rows that are multiplied with all adapters."""
        found = self._others.get(stack.layout)
        if found is None:
            assert self._slots_T is not None
            found = self._others[stack.layout] = self._slots_T[:, None] != stack.slots_S
        return found

    def _stack(self) -> None:
        """Put the adapters of each layer below one another anew."""
        self._stacks = {}
        by_layer: dict[str, dict[int, _Pair]] = {}
        for slot, pairs in self._pairs.items():
            for name, pair in pairs.items():
                by_layer.setdefault(name, {})[slot] = pair
        for name, of_slots in by_layer.items():
            stack = self._stacks[name] = _stacked(of_slots)
            for slot, first, end in stack.layout:  # views, so that nothing is there twice
                self._pairs[slot][name] = _Pair(stack.a_SI[first:end], stack.b_SO[first:end])


def _stacked(pairs: Mapping[int, _Pair]) -> _Stack:
    ranks = [pair.a_RI.shape[0] for pair in pairs.values()]
    ends = list(accumulate(ranks))
    layout = tuple((slot, end - rank, end) for slot, rank, end in zip(pairs, ranks, ends, strict=True))
    slots = [slot for slot, first, end in layout for _ in range(first, end)]
    return _Stack(
        torch.cat([pair.a_RI for pair in pairs.values()]),
        torch.cat([pair.b_RO for pair in pairs.values()]),
        torch.tensor(slots, device=next(iter(pairs.values())).a_RI.device),
        layout,
    )
