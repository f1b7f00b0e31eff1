"""Commands to the engine's thread: in order, woken at once, none lost."""

import threading
import time

from genai.inference.commands import Abort, Mailbox


def abort(name: str) -> Abort:
    return Abort(frozenset({name}))


def test_first_come_first_taken() -> None:
    mailbox = Mailbox()
    for name in "abc":
        assert mailbox.put(abort(name))
    assert [mailbox.take() for _ in range(4)] == [abort("a"), abort("b"), abort("c"), None]


def test_sleep_ends_with_a_command() -> None:
    mailbox = Mailbox()
    threading.Timer(0.02, mailbox.put, [abort("a")]).start()
    mailbox.wait(20.0)
    assert mailbox.take() == abort("a")


def test_what_is_there_is_not_slept_over() -> None:
    mailbox = Mailbox()
    mailbox.put(abort("a"))
    begun = time.monotonic()
    mailbox.wait(20.0)
    mailbox.take()
    mailbox.wait(0.01)
    assert time.monotonic() - begun < 10


def test_a_closed_one_takes_nothing_and_keeps_what_it_has() -> None:
    mailbox = Mailbox()
    mailbox.put(abort("a"))
    threading.Timer(0.02, mailbox.close).start()
    assert mailbox.take() == abort("a")
    mailbox.wait(20.0)
    assert mailbox.is_closed
    assert not mailbox.put(abort("b"))
    assert mailbox.take() is None


def test_none_is_lost_among_many_threads() -> None:
    mailbox = Mailbox()
    taken: list[object] = []

    def take() -> None:
        while len(taken) < 400:
            mailbox.wait(5.0)
            while (command := mailbox.take()) is not None:
                taken.append(command)

    taker = threading.Thread(target=take)
    taker.start()
    givers = [threading.Thread(target=lambda: [mailbox.put(abort("x")) for _ in range(100)]) for _ in range(4)]
    for giver in givers:
        giver.start()
    taker.join(20)
    assert len(taken) == 400
