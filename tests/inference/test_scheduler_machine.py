"""Whatever comes, goes and breaks in whatever order: every answer is the one that the sequence would get alone."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from imagined_model import ImaginedModel, expected_answer, make_sequence, run_to_the_end, take_step

from genai.inference.blocks import BlockPool
from genai.inference.interfaces import Answering, RefusedError
from genai.inference.scheduler import Scheduler
from genai.models.generation import SamplingParams

STEM = [number % 2 for number in range(40)]
PROMPTS = st.builds(
    lambda shared, own: STEM[:shared] + own, st.integers(0, 40), st.lists(st.integers(0, 1), min_size=1, max_size=6)
)
"""Many begin alike, at places on and beside the borders of blocks."""


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(
        num_blocks=st.integers(2, 30),
        block_size=st.integers(1, 5),
        seqs=st.integers(1, 5),
        tokens=st.integers(1, 40),
        waiting=st.integers(1, 20),
        prefix_caching=st.booleans(),
    )
    def begin(
        self, num_blocks: int, block_size: int, seqs: int, tokens: int, waiting: int, prefix_caching: bool
    ) -> None:
        self.pool = BlockPool(num_blocks, block_size, prefix_caching=prefix_caching)
        self.scheduler = Scheduler(
            pool=self.pool, max_num_seqs=seqs, max_num_batched_tokens=tokens, max_model_len=60, max_waiting=waiting
        )
        self.max_num_seqs, self.budget = seqs, max(2, tokens)
        self.model = ImaginedModel(block_size)
        self.open: list[Answering] = []
        self.ended: list[Answering] = []
        self.count = 0
        self.num_resets = 0

    @rule(
        prompt=PROMPTS,
        max_tokens=st.integers(1, 12),
        client=st.sampled_from("abc"),
        adapter=st.integers(0, 2),
        logprobs=st.sampled_from([None, None, 0]),
    )
    def add(self, prompt: list[int], max_tokens: int, client: str, adapter: int, logprobs: int | None) -> None:
        self.count += 1
        sequence = make_sequence(
            f"s{self.count}",
            prompt,
            max_tokens,
            client=client,
            salt=adapter,
            slot=adapter,
            sampling=SamplingParams(prompt_logprobs=logprobs),
        )
        try:
            self.scheduler.add(sequence)
        except RefusedError:
            return
        self.open.append(sequence)

    @rule(count=st.integers(1, 5))
    def go_on(self, count: int) -> None:
        for _ in range(count):
            before = len(self.model.sizes)
            self._end(take_step(self.scheduler, self.model))
            assert (len(self.model.sizes) > before) or not self.open, "there is work, but no step"
            assert all(size <= self.budget for size in self.model.sizes[before:])

    @rule()
    def lose_a_step(self) -> None:
        """The engine planned a step and never read it."""
        self.scheduler.next_step()

    @precondition(lambda self: self.open)
    @rule(data=st.data(), in_a_step=st.booleans())
    def abort(self, data: st.DataObject, in_a_step: bool) -> None:
        sequence = data.draw(st.sampled_from(self.open))
        step = self.scheduler.next_step() if in_a_step else None
        chosen = self.model.read(step) if step is not None else {}
        self.scheduler.finish(sequence)
        self.open.remove(sequence)
        assert sequence.blocks == []
        if step is None:
            return
        self.scheduler.advance(step, chosen)
        over = [each for each in self.open if len(each.output_ids) == each.request.sampling.max_tokens]
        for each in over:
            self.scheduler.finish(each)
        self._end(over)

    @rule()
    def crash(self) -> None:
        self.num_resets += 1
        lost = self.scheduler.reset()
        self.model.forget()
        assert self.pool.num_free == self.pool.num_usable
        for sequence in lost:
            self.open.remove(sequence)

    @invariant()
    def every_block_has_its_holders(self) -> None:
        if not hasattr(self, "pool"):
            return
        size = self.pool.block_size
        holders = Counter(block for sequence in self.scheduler.running for block in sequence.blocks)
        assert 0 not in holders
        assert [holders[block] for block in range(self.pool.num_blocks)] == self.pool._holders
        assert self.pool.num_free == self.pool.num_usable - len(holders)
        assert len({*self.pool._blank, *self.pool._idle}) == self.pool.num_free
        assert not {*self.pool._blank} & {*self.pool._key_of}
        assert {block: key for key, block in self.pool._block_of.items()} == self.pool._key_of
        for sequence in self.scheduler.running:
            for place, block in enumerate(sequence.blocks):
                is_full = sequence.num_computed >= (place + 1) * size
                assert holders[block] == 1 or (is_full and block in self.pool._key_of)
        for sequence in self.scheduler.waiting:
            assert (sequence.blocks, sequence.num_computed) == ([], 0)

    @invariant()
    def what_is_coming_is_what_running_ones_will_read(self) -> None:
        if hasattr(self, "pool"):
            size = self.pool.block_size
            coming = Counter(
                entry.keys[index]
                for entry in self.scheduler._running
                for index in range(entry.sequence.num_computed // size, entry.num_announced)
            )
            assert coming == self.scheduler._coming

    @invariant()
    def nobody_is_lost(self) -> None:
        if hasattr(self, "pool"):
            here = self.scheduler.running + self.scheduler.waiting
            assert {id(sequence) for sequence in here} == {id(sequence) for sequence in self.open}
            assert self.scheduler.num_running <= self.max_num_seqs
            assert (self.scheduler.num_running, self.scheduler.num_waiting) == (
                len(self.scheduler.running),
                len(self.scheduler.waiting),
            )

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        self._end(run_to_the_end(self.scheduler, self.model))
        assert self.open == []
        assert self.pool.num_free == self.pool.num_usable
        assert not self.scheduler._coming
        for sequence in self.ended:
            assert sequence.output_ids == expected_answer(sequence)
            self._check_reads(sequence)

    def _check_reads(self, sequence: Answering) -> None:
        size = len(sequence.request.prompt_ids)
        num_read = size + sequence.request.sampling.max_tokens - 1
        times = [self.model.places_read[sequence.id, place] for place in range(num_read + 1)]
        assert times[num_read] == 0
        if sequence.num_preempted == 0:
            assert times[:num_read] == [0] * sequence.num_cached + [1] * (num_read - sequence.num_cached)
        else:
            assert max(times) <= 1 + sequence.num_preempted
        told = [self.model.places_told[sequence.id, place] for place in range(size)]
        assert told == [0 if sequence.request.sampling.prompt_logprobs is None else 1] * size

    def _end(self, sequences: list[Answering]) -> None:
        for sequence in sequences:
            self.open.remove(sequence)
            self.ended.append(sequence)


SchedulerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
test_scheduler = SchedulerMachine.TestCase
