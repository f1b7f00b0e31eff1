"""What the next step reads: answers that go on, and pieces of prompts between them.

    add -> waits -> [admitted: blocks for all its tokens] -> reads its prompt in pieces -> goes on -> finish
             ^                                                                                |
             +-------------------- blocks ran out, and it was the youngest -------------------+

- A step holds all answers that go on, one token each, and prompts in what is left of its budget. An eighth of the
  budget is never taken by answers while prompts are there, so neither starves the other.
- Who waits is admitted in turns of the clients, when there are blocks for all of its tokens and one more for each that
  is under way. The first in turn that does not fit is waited for: smaller ones do not overtake it.
- Only one that would read what somebody else is reading right now is overtaken: it waits until that part is read, and
  finds it in the cache.
- When an answer needs a block and there is none, the youngest gives up its blocks. Its tokens are kept; it goes back to
  the front and reads them again, or finds them still there.

Plain Python, no tensors.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterator, Mapping
from operator import attrgetter

from genai.inference.blocks import BlockPool, block_key, first_parent
from genai.inference.fair_queue import FairQueue
from genai.inference.interfaces import Answering, Part, RefusedError, Step

MAX_LOGPROB_ROWS = 128
"""Prompt tokens a step of which all logits are wanted: a row is a float32 for each token of the vocabulary."""
_PROMPT_SHARE = 8
"""One part in so many of a step is kept free of answers that go on while prompts are there to read."""


class _Entry:
    """A sequence and what only the scheduler knows of it."""

    __slots__ = ("keys", "num_announced", "num_told", "rank", "sequence", "size", "step", "waits_for")

    def __init__(self, sequence: Answering) -> None:
        self.sequence = sequence
        self.size = len(sequence.request.prompt_ids)
        """Tokens of the prompt."""
        self.keys: list[bytes] = []
        """Of its full blocks, from the first on, as far as they were needed yet."""
        self.num_announced = 0
        """Full blocks of the tokens that it was admitted with: others know that they are coming."""
        self.rank = -1
        """Counts up with the first admissions, -1 before: lower is older."""
        self.num_told = 0
        """Tokens of the prompt whose logits were given, for `prompt_logprobs`."""
        self.step = 0
        """The last step that read some of it."""
        self.waits_for: bytes | None = None
        """Key of a block that somebody else is reading."""

    @property
    def wants_prompt_logits(self) -> bool:
        return self.sequence.request.sampling.prompt_logprobs is not None

    def key_of(self, index: int, block_size: int) -> bytes:
        """Of the block at this place, which must be full."""
        while len(self.keys) <= index:
            start = len(self.keys) * block_size
            parent = self.keys[-1] if self.keys else first_parent(self.sequence.cache_salt)
            self.keys.append(block_key(parent, self.tokens(start, start + block_size)))
        return self.keys[index]

    def tokens(self, start: int, stop: int) -> list[int]:
        """Of prompt and answer."""
        sequence, size = self.sequence, self.size
        if start >= size:
            return sequence.output_ids[start - size : stop - size]
        if stop <= size:
            return sequence.request.prompt_ids[start:stop]
        return sequence.request.prompt_ids[start:] + sequence.output_ids[: stop - size]


_by_rank = attrgetter("rank")
_by_step = attrgetter("step")
_by_adapter = attrgetter("sequence.adapter_slot")


class Scheduler:
    """Keeps all sequences from their arrival to their end; used by one thread.

    Args:
        pool: blocks of the cache.
        max_num_seqs: sequences under way at once; more wait.
        max_num_batched_tokens: tokens a step, but never less than 2: one for an answer, one for a prompt.
        max_model_len: tokens of prompt and answer together.
        max_waiting: sequences beyond `max_num_seqs` that may be here.
    """

    def __init__(
        self, *, pool: BlockPool, max_num_seqs: int, max_num_batched_tokens: int, max_model_len: int, max_waiting: int
    ) -> None:
        self.num_preemptions = 0
        self._pool = pool
        self._max_num_seqs = max_num_seqs
        self._budget = max(2, max_num_batched_tokens)
        self._max_model_len = max_model_len
        self._max_waiting = max_waiting
        self._entries: dict[str, _Entry] = {}
        self._running: list[_Entry] = []
        """Oldest first."""
        self._preempted: list[_Entry] = []
        """Oldest first."""
        self._queue: FairQueue[_Entry] = FairQueue()
        self._coming: Counter[bytes] = Counter()
        """Keys of full blocks that running sequences are going to read, but did not yet."""
        self._num_admitted = 0
        self._num_steps = 0

    @property
    def running(self) -> list[Answering]:
        """Sequences under way, oldest first."""
        return [entry.sequence for entry in self._running]

    @property
    def waiting(self) -> list[Answering]:
        """Sequences that wait, in the order in which they will be admitted."""
        return [entry.sequence for entry in self._in_turn()]

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._preempted) + len(self._queue)

    # --- coming and going ---------------------------------------------------------------------------------------------

    def add(self, sequence: Answering) -> None:
        """Let a sequence wait for its turn.

        Raises:
            RefusedError: too many wait (overloaded), or it could never be read to its end (too_long).
        """
        if sequence.id in self._entries:
            raise ValueError(f"{sequence.id!r} is here already")
        self._check_length(sequence)
        self._check_room(sequence.request.client)
        entry = _Entry(sequence)
        self._entries[sequence.id] = entry
        self._queue.put(sequence.id, sequence.request.client, entry)

    def finish(self, sequence: Answering) -> None:
        """Its answer is over, or nobody wants it any more; nothing happens when it is not here."""
        entry = self._entries.pop(sequence.id, None)
        if entry is None:
            return
        if sequence.id in self._queue:
            self._queue.remove(sequence.id)
        elif entry in self._preempted:
            self._preempted.remove(entry)
        else:
            self._running.remove(entry)
            self._let_go(entry)

    def reset(self) -> list[Answering]:
        """Forget what the cache held, after a crash.

        Returns:
            The sequences that were under way: they are no longer here. Those that wait stay, also those that were under
            way earlier and gave up their blocks.
        """
        lost = [self._entries.pop(entry.sequence.id).sequence for entry in self._running]
        for sequence in lost:
            sequence.blocks, sequence.num_computed = [], 0
        self._running.clear()
        self._coming.clear()
        self._pool.forget()
        return lost

    def _check_room(self, client: str) -> None:
        """Refuse what would be too many; others must not keep out a client that has nothing waiting yet."""
        num_allowed = self._max_num_seqs + self._max_waiting
        if not self._queue.has(client):
            num_allowed += self._max_waiting
        if len(self._entries) >= num_allowed:
            raise RefusedError(f"{self.num_waiting} requests wait already: ask again later", fault="overloaded")

    def _check_length(self, sequence: Answering) -> None:
        """Refuse what has no room for its first token, and what all blocks together could not hold."""
        size, wanted = len(sequence.request.prompt_ids), sequence.request.sampling.max_tokens
        room = self._max_model_len - size
        if room < min(1, wanted):
            raise RefusedError(
                f"the prompt has {size} tokens, but prompt and answer together may have {self._max_model_len}",
                fault="too_long",
            )
        # The last token of an answer is never read.
        num_read = size + max(0, min(wanted, room) - 1)
        if self._pool.num_to_hold(num_read) > self._pool.num_usable:
            raise RefusedError(
                f"the prompt has {size} tokens and the answer may have {min(wanted, room)}, but the cache of this "
                f"model holds {self._pool.num_usable * self._pool.block_size} tokens: ask for fewer (max_tokens)",
                fault="too_long",
                param="max_tokens",
            )

    # --- a step -------------------------------------------------------------------------------------------------------

    def next_step(self) -> Step | None:
        """What to read next; None when nobody wants anything, or all wait for `finish`."""
        ones, longer = self._sort_running()
        answering = self._go_on(self._choose(ones, has_prompts=bool(longer) or self._may_admit()))
        room = self._budget - len(answering)
        shares = self._share([entry for entry in longer if entry.sequence.blocks], room) if room > 0 else []
        parts = [self._part(entry, count) for entry, count in shares]
        return self._assemble(answering + parts)

    def advance(self, step: Step, chosen: Mapping[str, int]) -> None:
        """A step was read.

        Args:
            step: the last one that `next_step` gave. Sequences that were finished meanwhile are passed over.
            chosen: for sequences whose part wanted logits, the token that goes on, by the sequence's id.
        """
        block_size = self._pool.block_size
        for part in step.parts:
            sequence = part.sequence
            entry = self._entries.get(sequence.id)
            if entry is None or entry.sequence is not sequence:
                continue
            stop = sequence.num_computed = part.start + len(part.token_ids)
            if part.wants_all_logits:
                entry.num_told = stop
            if self._pool.prefix_caching:
                for index in range(part.start // block_size, stop // block_size):
                    self._has_read(entry, index)
            if part.wants_logits and sequence.id in chosen:
                sequence.output_ids.append(chosen[sequence.id])

    def _sort_running(self) -> tuple[list[_Entry], list[_Entry]]:
        """Who has one token to read, and who has more; who has none waits for its `finish`."""
        ones, longer = [], []
        for entry in self._running:
            sequence = entry.sequence
            left = entry.size + len(sequence.output_ids) - sequence.num_computed
            if left == 1:
                ones.append(entry)
            elif left > 1:
                longer.append(entry)
        return ones, longer

    def _choose(self, ones: list[_Entry], *, has_prompts: bool) -> list[_Entry]:
        """As many of those with one token as a step takes: the ones that were longest without go first."""
        limit = self._budget - (max(1, self._budget // _PROMPT_SHARE) if has_prompts else 0)
        if len(ones) <= limit:
            return ones
        return sorted(sorted(ones, key=_by_step)[:limit], key=_by_rank)

    def _may_admit(self) -> bool:
        return self.num_waiting > 0 and len(self._running) < self._max_num_seqs

    def _go_on(self, entries: list[_Entry]) -> list[Part]:
        """A part for each, oldest first; a block for those whose last one is full, if need be the youngest's."""
        parts: list[Part] = []
        for entry in entries:
            sequence = entry.sequence
            if not sequence.blocks:
                break  # it gave up its blocks to one before it, and so did all behind it
            if sequence.num_computed == len(sequence.blocks) * self._pool.block_size and not self._grow(entry):
                break
            parts.append(self._part(entry, 1))
        return parts

    def _grow(self, entry: _Entry) -> bool:
        """One more block; False when the sequence itself was the youngest and gave up its own."""
        while not self._pool.num_free:
            youngest = self._running[-1]
            self._preempt(youngest)
            if youngest is entry:
                return False
        entry.sequence.blocks += self._pool.take(1)
        return True

    def _share(self, reading: list[_Entry], room: int) -> list[tuple[_Entry, int]]:
        """How much of each prompt is read: those under way first, then who is admitted now.

        A prompt that would take more than half of the room leaves half of it to those behind, and takes what is left.
        """
        shares: list[tuple[_Entry, int]] = []
        left, rows, half = room, MAX_LOGPROB_ROWS, room // 2
        for entry in self._all_reading(reading):
            wanted = self._wanted(entry, rows)
            count = min(wanted, left) if wanted <= half else min(wanted, max(1, left // 2))
            left -= count
            rows -= count if self._tells(entry) else 0
            shares.append((entry, count))
            if left <= 0:
                break
        return [*self._deal(shares, left, rows)]

    def _deal(self, shares: list[tuple[_Entry, int]], left: int, rows: int) -> Iterator[tuple[_Entry, int]]:
        """Give what is left of the room to those that wanted more, oldest first."""
        for entry, count in shares:
            extra = 0
            if left > 0:
                tells = self._tells(entry)
                extra = min(left, self._wanted(entry, rows + count if tells else rows) - count)
                left -= extra
                rows -= extra if tells else 0
            if count + extra > 0:
                yield entry, count + extra

    def _wanted(self, entry: _Entry, rows: int) -> int:
        """How many tokens could be read at once.

        Args:
            entry: of a sequence under way.
            rows: how many of them may have all their logits.
        """
        start, told = entry.sequence.num_computed, entry.num_told
        count = entry.sequence.num_tokens - start
        if not entry.wants_prompt_logits or told == entry.size:
            return count
        # What was read before is read again without logits, up to where they were given.
        return told - start if start < told else min(count, rows)

    def _tells(self, entry: _Entry) -> bool:
        """Whether the next part of it has all its logits."""
        return entry.wants_prompt_logits and entry.num_told <= entry.sequence.num_computed < entry.size

    def _all_reading(self, reading: list[_Entry]) -> Iterator[_Entry]:
        """Those under way, then, as long as somebody asks for the next, those that are admitted by this."""
        yield from reading
        if len(self._running) >= self._max_num_seqs:
            return
        for entry in self._in_turn():
            if self._is_coming(entry):
                continue
            if not self._admit(entry):
                return
            yield entry
            if len(self._running) >= self._max_num_seqs:
                return

    def _part(self, entry: _Entry, count: int) -> Part:
        sequence, block_size = entry.sequence, self._pool.block_size
        start = sequence.num_computed
        stop = start + count
        blocks = sequence.blocks
        entry.step = self._num_steps
        return Part(
            sequence,
            start,
            entry.tokens(start, stop),
            [blocks[place // block_size] * block_size + place % block_size for place in range(start, stop)],
            stop == entry.size + len(sequence.output_ids),
            self._tells(entry),
        )

    def _assemble(self, parts: list[Part]) -> Step | None:
        if not parts:
            return None
        self._num_steps += 1
        ones = [part for part in parts if len(part.token_ids) == 1]
        longer = [part for part in parts if len(part.token_ids) > 1]
        return Step(sorted(ones, key=_by_adapter) + sorted(longer, key=_by_adapter), len(ones), self._pool.block_size)

    # --- admission and preemption -------------------------------------------------------------------------------------

    def _in_turn(self) -> Iterator[_Entry]:
        yield from self._preempted.copy()
        yield from self._queue.in_turn()

    def _is_coming(self, entry: _Entry) -> bool:
        """Whether the next block that it would read is being read by somebody else right now."""
        if entry.waits_for is not None and entry.waits_for in self._coming:
            return True
        entry.waits_for = None
        if self._coming:
            known, limit = len(self._find(entry)), self._num_findable(entry)
            if known < limit and (key := entry.key_of(known, self._pool.block_size)) in self._coming:
                entry.waits_for = key
        return entry.waits_for is not None

    def _admit(self, entry: _Entry) -> bool:
        """Give a sequence its blocks, those that are known first; False when there are too few."""
        pool, sequence = self._pool, entry.sequence
        found = self._find(entry)
        num_new = pool.num_to_hold(sequence.num_tokens) - len(found)
        # One more for each that is under way, or the newcomer would soon be sent back.
        if pool.num_free - pool.count_idle(found) - num_new < len(self._running):
            return False
        pool.hold(found)
        sequence.blocks = found + pool.take(num_new)
        sequence.num_computed = len(found) * pool.block_size
        if entry.rank < 0:
            self._note_first(entry)
        else:
            self._preempted.remove(entry)
        insort(self._running, entry, key=_by_rank)
        self._announce(entry)
        return True

    def _note_first(self, entry: _Entry) -> None:
        sequence = entry.sequence
        self._queue.take(sequence.id)
        entry.rank = self._num_admitted
        self._num_admitted += 1
        sequence.num_cached = sequence.num_computed
        if self._pool.prefix_caching and not entry.wants_prompt_logits:
            self._pool.queries += entry.size
            self._pool.hits += sequence.num_cached

    def _find(self, entry: _Entry) -> list[int]:
        """Known blocks that it begins with."""
        block_size = self._pool.block_size
        return self._pool.find(entry.key_of(index, block_size) for index in range(self._num_findable(entry)))

    def _num_findable(self, entry: _Entry) -> int:
        """Full blocks that need not be read by itself: not the last token, not those whose logits are wanted."""
        if not self._pool.prefix_caching:
            return 0
        end = entry.sequence.num_tokens - 1
        if entry.wants_prompt_logits and entry.num_told < entry.size:
            end = min(end, entry.num_told)
        return end // self._pool.block_size

    def _preempt(self, entry: _Entry) -> None:
        """Back to the front of those that wait; what it read stays known as long as nobody needs its blocks."""
        self._running.remove(entry)
        self._let_go(entry)
        insort(self._preempted, entry, key=_by_rank)
        entry.sequence.num_preempted += 1
        self.num_preemptions += 1

    def _let_go(self, entry: _Entry) -> None:
        sequence = entry.sequence
        self._withdraw(entry)
        self._pool.release(sequence.blocks)
        sequence.blocks, sequence.num_computed = [], 0

    # --- what is being read -------------------------------------------------------------------------------------------

    def _announce(self, entry: _Entry) -> None:
        """Tell which full blocks it is going to read, so that others need not."""
        if self._pool.prefix_caching:
            block_size, sequence = self._pool.block_size, entry.sequence
            entry.num_announced = sequence.num_tokens // block_size
            first = sequence.num_computed // block_size
            self._coming.update(entry.key_of(index, block_size) for index in range(first, entry.num_announced))

    def _withdraw(self, entry: _Entry) -> None:
        """It is not going to read the rest."""
        for index in range(entry.sequence.num_computed // self._pool.block_size, entry.num_announced):
            self._is_no_longer_coming(entry.keys[index])

    def _has_read(self, entry: _Entry, index: int) -> None:
        """A block of it is full now, and known."""
        key = entry.key_of(index, self._pool.block_size)
        self._pool.know(entry.sequence.blocks[index], key)
        if index < entry.num_announced:
            self._is_no_longer_coming(key)

    def _is_no_longer_coming(self, key: bytes) -> None:
        self._coming[key] -= 1
        if not self._coming[key]:
            del self._coming[key]
