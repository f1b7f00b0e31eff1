"""The `local` engine: one model in a thread of its own, which answers many requests at a time.

    submit ─> mailbox ─> checked, grammar compiled ─> scheduler ─> runner ─> sampler ─> text ─> emit
              (any thread)                            └────────── one step, again and again ──────┘

Nothing but the engine's thread touches a sequence, the scheduler, the cache or the model.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from genai.errors import GenaiError, UsageError
from genai.inference.adapters import load_adapter
from genai.inference.commands import Abort, Call, Command, Mailbox, Refuse, Submit
from genai.inference.engine_loop import EngineLoop
from genai.inference.stats import EngineStats
from genai.models.generation import AdapterCard, Event, Fault, GenerationRequest

if TYPE_CHECKING:
    from genai.config.serve import LocalEngineConfig
    from genai.inference.opening import OpenedModel

Done = TypeVar("Done")
_COMMANDS_A_TURN = 256
"""Taken between two steps, so that a flood of requests does not hold up the answers under way."""


class LocalEngine:
    """Answers requests to one model; see the module's text.

    Args:
        name: of the endpoint, for messages.
        opened: the model; closed with the engine.
        config: how many answers at a time, how long, how many adapters.
        emit: takes the events of a step, at most one for each answer; called by the engine's thread, must not raise.
        grammar_timeout_s: to make sense of a grammar.
    """

    def __init__(
        self,
        name: str,
        opened: OpenedModel,
        *,
        config: LocalEngineConfig,
        emit: Callable[[list[Event]], None],
        grammar_timeout_s: float,
    ) -> None:
        self.name = name
        self._opened = opened
        self._max_lora_rank = config.max_lora_rank
        self._emit = emit
        self._mailbox = Mailbox()
        self._loop = EngineLoop(
            name, opened, config=config, grammar_timeout_s=grammar_timeout_s, tell=self._mailbox.put
        )
        self._changed = threading.Condition()
        self._num_open = 0
        self._is_draining = False
        self._num_threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._run, name=f"engine-{name}", daemon=True)
        self._thread.start()

    # --- for any thread -----------------------------------------------------------------------------------------------

    def submit(self, request: GenerationRequest) -> None:
        """Begin an answer; whatever is wrong with the request comes as its last event."""
        with self._changed:
            self._num_open += 1
            fault = self._unloaded() if self._is_draining else None
        fault = fault or self._loop.check(request)
        command = Submit(request, time.monotonic()) if fault is None else Refuse(request, fault)
        if not self._mailbox.put(command):
            self._deliver([Event(id=request.id, finish_reason="error", fault=self._unloaded())])

    def abort(self, ids: Collection[str]) -> None:
        """End answers that nobody waits for; each still has its last event. Others are passed over."""
        self._mailbox.put(Abort(frozenset(ids)))

    def add_adapter(self, name: str, reference: str, path: Path) -> AdapterCard:
        """Let requests name an adapter, or another one by a name that there is; answers under way keep theirs.

        Args:
            name: what requests say.
            reference: what the operator wrote.
            path: its folder.

        Raises:
            UsageError, DataError: it does not fit the model, there are too many, or it has no effect; all is as before.
        """
        bank = self._opened.bank
        adapter = load_adapter(path, base=self._opened.resolved, modules=bank.modules, max_rank=self._max_lora_rank)
        card = AdapterCard(
            name=name,
            reference=reference,
            fingerprint=adapter.fingerprint,
            rank=adapter.rank,
            created=int(time.time()),
        )
        self._call(lambda: self._loop.adapters.put(card, adapter))
        return card

    def remove_adapter(self, name: str) -> None:
        """Let nobody name an adapter any more; requests that were submitted before keep it. Waits for nothing.

        Raises:
            UsageError: there is none of this name.
        """
        if name not in {card.name for card in self.adapters}:
            raise UsageError(f"there is no adapter '{name}'")
        self._mailbox.put(Call(lambda: self._loop.adapters.remove(name), Future()))

    @property
    def adapters(self) -> list[AdapterCard]:
        """Those that requests can name."""
        return self._loop.adapters.cards

    @property
    def num_open(self) -> int:
        """Answers that had no last event yet."""
        return self._num_open

    @property
    def failed(self) -> str | None:
        """Why the engine answers nothing any more."""
        return self._loop.failed

    def stats(self) -> EngineStats:
        """Numbers of this moment."""
        return self._loop.stats()

    def take_queue_times(self) -> list[float]:
        """Seconds that requests waited before they were begun, of those since the last call."""
        return self._loop.take_queue_times()

    def drain(self, timeout_s: float) -> bool:
        """Take no more requests and wait for the answers under way; whether all were over in time."""
        with self._changed:
            self._is_draining = True
            return self._changed.wait_for(lambda: not self._num_open, timeout_s)

    def close(self) -> None:
        """End the thread and let go of the model; answers under way end with a fault. Further calls do nothing."""
        self._mailbox.close()
        self._thread.join()

    def _unloaded(self) -> Fault:
        return Fault(code="not_loaded", message=f"{self.name} is being unloaded")

    def _call(self, function: Callable[[], Done]) -> Done:
        """Have the engine's thread do something between two steps."""
        done: Future[Any] = Future()
        if not self._mailbox.put(Call(function, done)):
            raise GenaiError(f"{self.name} is being unloaded")
        result: Done = done.result()
        return result

    # --- the engine's thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        torch.set_num_threads(self._num_threads)  # OpenMP keeps the number for each thread apart
        loop, mailbox = self._loop, self._mailbox
        with torch.inference_mode():
            while not mailbox.is_closed:
                try:
                    is_busy = loop.turn(self._take(_COMMANDS_A_TURN))
                except Exception as error:
                    loop.give_up(error)
                    is_busy = False
                self._deliver(loop.take_events())
                if not is_busy:
                    mailbox.wait(loop.idle_s())
            loop.close(self._take(), self._unloaded())
            self._deliver(loop.take_events())

    def _take(self, limit: int | None = None) -> Iterator[Command]:
        """What other threads said, `limit` at most."""
        for _ in itertools.count() if limit is None else range(limit):
            command = self._mailbox.take()
            if command is None:
                return
            yield command

    def _deliver(self, events: list[Event]) -> None:
        if not events:
            return
        self._emit(events)
        num_over = sum(event.finish_reason is not None for event in events)
        if num_over:
            with self._changed:
                self._num_open -= num_over
                self._changed.notify_all()
