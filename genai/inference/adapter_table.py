"""Which adapter a name means, and how long each of them is kept: until it is replaced and its last answer is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from genai.errors import UsageError
from genai.inference.adapters import AdapterBank, LoadedAdapter
from genai.inference.interfaces import RefusedError
from genai.models.generation import AdapterCard
from genai.registry import suggest


@dataclass(eq=False, slots=True)
class _Kept:
    """An adapter in the bank."""

    card: AdapterCard
    slot: int
    num_answers: int = 0
    """Under way with it."""


class AdapterTable:
    """Adapters by name; used by the engine's thread, but for `cards`.

    Slots count up and are never used twice, so a slot is also what keeps the keys and values of an adapter apart from
    those of all others that were ever there.

    Args:
        bank: where they are kept.
        prove: raises when the adapter in a slot changes nothing.
    """

    def __init__(self, bank: AdapterBank, prove: Callable[[int], None]) -> None:
        self._bank = bank
        self._prove = prove
        self._current: dict[str, _Kept] = {}
        self._kept: dict[int, _Kept] = {}
        self._last_slot = 0

    @property
    def cards(self) -> list[AdapterCard]:
        """Of those that requests can name."""
        return [kept.card for kept in self._current.copy().values()]

    def put(self, card: AdapterCard, adapter: LoadedAdapter) -> None:
        """Let requests name an adapter; those under way with another one of this name keep it.

        Raises:
            UsageError: there are too many.
            DataError: it has no effect, or the model cannot be read with it.
        """
        if card.name not in self._current and len(self._current) >= self._bank.max_adapters:
            raise UsageError(
                f"there are {len(self._current)} adapters already",
                where=card.name,
                fix=f"remove one, or set engine.max_adapters: {len(self._current) + 1}",
            )
        self._last_slot += 1
        slot = self._last_slot
        self._bank.add(slot, adapter)
        try:
            self._prove(slot)
        except BaseException:
            self._bank.remove(slot)
            raise
        self._current[card.name] = self._kept[slot] = _Kept(card, slot)
        self._sweep()

    def remove(self, name: str) -> None:
        """Let nobody name it any more; its memory is given back with its last answer."""
        self._current.pop(name, None)
        self._sweep()

    def clear(self) -> None:
        """Give everything back; no answer is under way any more."""
        self._current.clear()
        for slot in self._kept:
            self._bank.remove(slot)
        self._kept.clear()

    def take(self, name: str | None) -> int:
        """The slot for one more answer; 0 without an adapter.

        Raises:
            RefusedError: there is no such adapter (not_found).
        """
        if name is None:
            return 0
        kept = self._current.get(name)
        if kept is None:
            near = suggest(name, self._current)
            hint = f" (did you mean '{near}'?)" if near else ""
            raise RefusedError(f"there is no adapter '{name}'{hint}", fault="not_found", param="model")
        kept.num_answers += 1
        return kept.slot

    def give_back(self, slot: int) -> None:
        """An answer with this slot is over."""
        if slot:
            kept = self._kept[slot]
            kept.num_answers -= 1
            if self._current.get(kept.card.name) is not kept:
                self._sweep()

    def _sweep(self) -> None:
        """Give back the memory of those that nobody can name or has."""
        current = {kept.slot for kept in self._current.values()}
        for kept in list(self._kept.values()):
            if kept.slot not in current and not kept.num_answers:
                del self._kept[kept.slot]
                self._bank.remove(kept.slot)
