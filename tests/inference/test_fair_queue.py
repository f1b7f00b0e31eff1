import pytest

from genai.inference.fair_queue import FairQueue


def queue_of(*items: str) -> FairQueue[str]:
    """Items such as a1, whose client is a."""
    queue: FairQueue[str] = FairQueue()
    for item in items:
        queue.put(item, item[0], item)
    return queue


def take_all(queue: FairQueue[str]) -> list[str]:
    taken = []
    while queue:
        taken.append(queue.take(next(queue.in_turn())))
    return taken


def test_clients_take_turns_and_within_one_the_first_comes_first() -> None:
    queue = queue_of("a1", "a2", "a3", "b1", "c1", "c2")
    expected = ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert list(queue.in_turn()) == expected
    assert take_all(queue) == expected


def test_items_can_be_taken_while_looking() -> None:
    queue = queue_of("a1", "a2", "b1")
    assert [queue.take(item) for item in queue.in_turn()] == ["a1", "b1", "a2"]
    assert len(queue) == 0


def test_who_was_passed_over_keeps_its_turn() -> None:
    queue = queue_of("a1", "a2", "b1", "b2")
    queue.take("b1")
    assert list(queue.in_turn()) == ["a1", "b2", "a2"]


def test_a_newcomer_waits_one_round_at_most() -> None:
    queue = queue_of(*(f"a{number}" for number in range(100)))
    queue.take("a0")
    queue.put("b0", "b", "b0")
    assert list(queue.in_turn())[:3] == ["a1", "b0", "a2"]


def test_items_leave_from_anywhere() -> None:
    queue = queue_of("a1", "a2", "b1")
    assert queue.remove("a1") == "a1"
    assert queue.remove("b1") == "b1"
    assert (len(queue), "a1" in queue, "a2" in queue) == (1, False, True)
    assert (queue.has("a"), queue.has("b")) == (True, False)
    assert take_all(queue) == ["a2"]


def test_a_key_waits_once() -> None:
    with pytest.raises(ValueError, match="waits already"):
        queue_of("a1", "a1")


def test_what_does_not_wait_cannot_be_taken() -> None:
    with pytest.raises(KeyError):
        queue_of("a1").take("a2")
