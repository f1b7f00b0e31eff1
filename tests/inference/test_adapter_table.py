"""Names of adapters and how long each is kept."""

from typing import Any, cast

import pytest

from genai.errors import DataError, UsageError
from genai.inference.adapter_table import AdapterTable
from genai.inference.interfaces import RefusedError
from genai.models.generation import AdapterCard


class Bank:
    """Which slots are filled, and with what."""

    max_adapters = 2

    def __init__(self) -> None:
        self.slots: dict[int, str] = {}

    def add(self, slot: int, adapter: Any) -> None:
        assert slot not in self.slots
        self.slots[slot] = adapter

    def remove(self, slot: int) -> None:
        del self.slots[slot]


def card(name: str) -> AdapterCard:
    return AdapterCard(name=name, reference=name, fingerprint="sha256:0", rank=4)


class Table(AdapterTable):
    """With texts for adapters; "dull" ones have no effect."""

    def __init__(self) -> None:
        self.bank = Bank()
        super().__init__(cast("Any", self.bank), self._see)

    def fill(self, name: str, adapter: str) -> None:
        self.put(card(name), cast("Any", adapter))

    def _see(self, slot: int) -> None:
        if self.bank.slots[slot] == "dull":
            raise DataError("no effect")


@pytest.fixture
def table() -> Table:
    return Table()


def test_slots_are_never_used_twice(table: Table) -> None:
    table.fill("red", "first")
    first = table.take("red")
    table.give_back(first)
    table.remove("red")
    table.fill("red", "first")
    assert table.take("red") > first > 0
    assert table.take(None) == 0


def test_a_replaced_one_stays_until_its_last_answer_is_over(table: Table) -> None:
    table.fill("red", "old")
    held = [table.take("red"), table.take("red")]
    table.fill("red", "new")
    assert sorted(table.bank.slots.values()) == ["new", "old"]
    table.give_back(held[0])
    assert len(table.bank.slots) == 2
    table.give_back(held[1])
    assert list(table.bank.slots.values()) == ["new"]
    assert [each.name for each in table.cards] == ["red"]
    table.give_back(table.take("red"))
    assert list(table.bank.slots.values()) == ["new"]


def test_a_removed_one_is_gone_for_newcomers_at_once(table: Table) -> None:
    table.fill("red", "x")
    held = table.take("red")
    table.remove("red")
    with pytest.raises(RefusedError, match="no adapter 'red'") as caught:
        table.take("red")
    assert (caught.value.fault, caught.value.param) == ("not_found", "model")
    assert table.bank.slots
    table.give_back(held)
    assert not table.bank.slots


def test_a_near_name_is_named(table: Table) -> None:
    table.fill("faq-lora", "x")
    with pytest.raises(RefusedError, match="did you mean 'faq-lora'"):
        table.take("faq-lroa")


def test_too_many(table: Table) -> None:
    table.fill("a", "x")
    table.fill("b", "x")
    with pytest.raises(UsageError, match="there are 2 adapters already") as caught:
        table.fill("c", "x")
    assert caught.value.fix == "remove one, or set engine.max_adapters: 3"
    table.fill("b", "y")
    assert sorted(table.bank.slots.values()) == ["x", "y"]


def test_one_without_effect_changes_nothing(table: Table) -> None:
    table.fill("a", "good")
    with pytest.raises(DataError, match="no effect"):
        table.fill("a", "dull")
    assert list(table.bank.slots.values()) == ["good"]
    assert table.bank.slots[table.take("a")] == "good"


def test_nothing_is_left(table: Table) -> None:
    table.fill("a", "x")
    table.take("a")
    table.fill("a", "y")
    table.fill("b", "z")
    table.clear()
    assert not table.bank.slots
    assert not table.cards
