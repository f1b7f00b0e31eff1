import pytest
from imagined_model import ImaginedModel, expected_answer, make_sequence, run_to_the_end, take_step

from genai.inference.blocks import BlockPool
from genai.inference.interfaces import Answering, RefusedError, Step
from genai.inference.scheduler import MAX_LOGPROB_ROWS, Scheduler
from genai.models.generation import SamplingParams

BLOCK = 4


def make_scheduler(
    num_blocks: int = 100,
    *,
    seqs: int = 4,
    tokens: int = 32,
    model_len: int = 10_000,
    waiting: int = 1000,
    prefix_caching: bool = True,
    block_size: int = BLOCK,
) -> Scheduler:
    """`num_blocks` are those that can be used."""
    return Scheduler(
        pool=BlockPool(num_blocks + 1, block_size, prefix_caching=prefix_caching),
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        max_model_len=model_len,
        max_waiting=waiting,
    )


def add_all(scheduler: Scheduler, *sequences: Answering) -> None:
    for sequence in sequences:
        scheduler.add(sequence)


def lengths(step: Step | None) -> dict[str, int]:
    assert step is not None
    return {part.sequence.id: len(part.token_ids) for part in step.parts}


def run_until_preempted(scheduler: Scheduler, model: ImaginedModel) -> None:
    for _ in range(100):
        take_step(scheduler, model)
        if scheduler.num_preemptions:
            return
    raise AssertionError("nobody had to give up its blocks")


def pool_of(scheduler: Scheduler) -> BlockPool:
    return scheduler._pool


# --- steps ------------------------------------------------------------------------------------------------------------


def test_a_prompt_is_read_and_the_answer_goes_on() -> None:
    scheduler, sequence = make_scheduler(), make_sequence("a", [5, 6, 7, 8, 9], 3)
    scheduler.add(sequence)
    step = scheduler.next_step()
    assert step is not None
    (part,) = step.parts
    assert (part.start, part.token_ids, part.stop, part.wants_logits) == (0, [5, 6, 7, 8, 9], 5, True)
    assert part.slots == [4, 5, 6, 7, 8]
    assert (step.num_decodes, step.num_tokens, step.block_size) == (0, 5, BLOCK)
    scheduler.advance(step, {"a": 1})
    assert (sequence.output_ids, sequence.num_computed) == ([1], 5)
    step = scheduler.next_step()
    assert step is not None
    (part,) = step.parts
    assert (part.start, part.token_ids, part.slots, step.num_decodes) == (5, [1], [9], 1)
    scheduler.advance(step, {"a": 2})
    scheduler.finish(sequence)
    assert scheduler.next_step() is None
    assert (sequence.blocks, pool_of(scheduler).usage) == ([], 0)


def test_nothing_to_do_gives_no_step() -> None:
    assert make_scheduler().next_step() is None


def test_a_long_prompt_is_read_in_pieces_between_answers() -> None:
    scheduler, model = make_scheduler(tokens=8), ImaginedModel(BLOCK)
    add_all(scheduler, make_sequence("short", 3, 20))
    take_step(scheduler, model)
    scheduler.add(make_sequence("long", 30))
    pieces = []
    for _ in range(5):
        step = scheduler.next_step()
        pieces.append(lengths(step))
        assert step is not None
        scheduler.advance(step, model.read(step))
    assert pieces == [{"short": 1, "long": 7}] * 4 + [{"short": 1, "long": 2}]


def test_a_long_prompt_leaves_room_for_those_behind_it() -> None:
    scheduler = make_scheduler(tokens=32)
    add_all(scheduler, make_sequence("long", 300), make_sequence("short", 5), make_sequence("too", 6))
    assert lengths(scheduler.next_step()) == {"long": 21, "short": 5, "too": 6}


def test_a_lone_long_prompt_takes_all_the_room() -> None:
    scheduler = make_scheduler(tokens=32)
    scheduler.add(make_sequence("long", 300))
    assert lengths(scheduler.next_step()) == {"long": 32}


def test_prompts_of_usual_length_are_read_whole_one_after_the_other() -> None:
    scheduler = make_scheduler(tokens=32, seqs=8)
    add_all(scheduler, *(make_sequence(f"s{number}", 12) for number in range(4)))
    assert lengths(scheduler.next_step()) == {"s0": 12, "s1": 12, "s2": 8}


@pytest.mark.parametrize("tokens", [1, 2, 3, 8])
def test_neither_prompts_nor_answers_starve_in_a_narrow_step(tokens: int) -> None:
    scheduler, model = make_scheduler(400, seqs=20, tokens=tokens), ImaginedModel(BLOCK)
    sequences = [make_sequence(f"s{number}", 5, 30) for number in range(20)]
    add_all(scheduler, *sequences)
    last: dict[str, int] = {}
    for number in range(3000):
        step = scheduler.next_step()
        if step is None:
            break
        assert step.num_tokens <= max(2, tokens)
        for part in step.parts:
            begun = part.start >= 5
            assert not begun or number - last[part.sequence.id] <= 40, "an answer stood still"
            last[part.sequence.id] = number
        scheduler.advance(step, model.read(step))
        for sequence in [part.sequence for part in step.parts if len(part.sequence.output_ids) == 30]:
            scheduler.finish(sequence)
    assert [sequence.output_ids for sequence in sequences] == [expected_answer(sequence) for sequence in sequences]


def test_parts_of_one_adapter_lie_together() -> None:
    scheduler, model = make_scheduler(seqs=8, tokens=64), ImaginedModel(BLOCK)
    slots = [2, 0, 1, 2, 0, 1]
    add_all(scheduler, *(make_sequence(f"s{n}", 5, slot=slot, salt=slot) for n, slot in enumerate(slots)))
    run_to_the_end(scheduler, model)


def test_an_answer_of_no_tokens_waits_for_its_end() -> None:
    scheduler, sequence = make_scheduler(), make_sequence("a", 5, 0)
    scheduler.add(sequence)
    step = scheduler.next_step()
    assert step is not None
    assert step.parts[0].wants_logits
    scheduler.advance(step, {})
    assert scheduler.next_step() is None
    assert scheduler.running == [sequence]
    scheduler.finish(sequence)
    assert scheduler.num_running == 0


# --- admission --------------------------------------------------------------------------------------------------------


def test_more_than_the_slots_wait_and_all_come_to_an_end() -> None:
    for factor in (2, 10):
        scheduler, model = make_scheduler(40), ImaginedModel(BLOCK)
        sequences = [make_sequence(f"s{number}", 7, 6) for number in range(4 * factor)]
        add_all(scheduler, *sequences)
        assert scheduler.waiting == sequences
        take_step(scheduler, model)
        assert (scheduler.running, scheduler.num_waiting) == (sequences[:4], 4 * factor - 4)
        assert run_to_the_end(scheduler, model) == sequences
        assert [sequence.output_ids for sequence in sequences] == [expected_answer(each) for each in sequences]


def test_clients_take_turns() -> None:
    scheduler, model = make_scheduler(seqs=1), ImaginedModel(BLOCK)
    greedy = [make_sequence(f"greedy{number}", 5, client="greedy") for number in range(50)]
    add_all(scheduler, *greedy, make_sequence("modest", 5, client="modest"))
    ended = run_to_the_end(scheduler, model)
    assert [sequence.id for sequence in ended[:3]] == ["greedy0", "modest", "greedy1"]


def test_a_big_prompt_is_not_overtaken_for_ever() -> None:
    scheduler, model = make_scheduler(30, seqs=4, tokens=64), ImaginedModel(BLOCK)
    add_all(scheduler, *(make_sequence(f"small{number}", 20, 4 + number) for number in range(4)))
    take_step(scheduler, model)
    add_all(scheduler, make_sequence("big", 100), *(make_sequence(f"late{number}", 5, 4) for number in range(20)))
    ended: list[str] = []
    while "big" not in [sequence.id for sequence in scheduler.running]:
        ended += [sequence.id for sequence in take_step(scheduler, model)]
    assert set(ended) <= {"small0", "small1", "small2", "small3"}
    assert len(run_to_the_end(scheduler, model)) == 25 - len(ended)
    assert scheduler.num_preemptions == 0


def test_too_many_are_refused() -> None:
    scheduler = make_scheduler(seqs=2, waiting=3)
    add_all(scheduler, *(make_sequence(f"s{number}", 5) for number in range(5)))
    with pytest.raises(RefusedError, match="5 requests wait already") as caught:
        scheduler.add(make_sequence("more", 5))
    assert caught.value.fault == "overloaded"
    scheduler.next_step()
    with pytest.raises(RefusedError, match="3 requests wait already"):
        scheduler.add(make_sequence("more", 5))
    scheduler.finish(scheduler.running[0])
    scheduler.add(make_sequence("more", 5))


def test_a_client_that_fills_the_queue_does_not_keep_others_out() -> None:
    scheduler = make_scheduler(seqs=2, waiting=2)
    add_all(scheduler, *(make_sequence(f"s{number}", 5, client="greedy") for number in range(4)))
    scheduler.add(make_sequence("modest", 5, client="modest"))
    with pytest.raises(RefusedError):
        scheduler.add(make_sequence("more", 5, client="modest"))
    scheduler.add(make_sequence("other", 5, client="other"))
    with pytest.raises(RefusedError):
        scheduler.add(make_sequence("third", 5, client="third"))


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "fits"),
    [(16, 1, True), (16, 2, False), (15, 2, True), (17, 0, False), (16, 0, True), (1, 16, True), (1, 17, False)],
)
def test_what_the_cache_could_never_hold_is_refused(prompt: int, max_tokens: int, fits: bool) -> None:
    scheduler, model = make_scheduler(4), ImaginedModel(BLOCK)
    sequence = make_sequence("a", prompt, max_tokens)
    if fits:
        scheduler.add(sequence)
        if max_tokens:
            run_to_the_end(scheduler, model)
        assert sequence.output_ids == expected_answer(sequence)
        return
    with pytest.raises(RefusedError, match="holds 16 tokens") as caught:
        scheduler.add(sequence)
    assert (caught.value.fault, caught.value.param) == ("too_long", "max_tokens")


def test_the_length_of_an_answer_counts_only_up_to_the_models_context() -> None:
    scheduler = make_scheduler(4, model_len=12)
    scheduler.add(make_sequence("a", 5, 1000))
    scheduler.add(make_sequence("b", 12, 0))
    with pytest.raises(RefusedError, match="13 tokens, but prompt and answer together may have 12") as caught:
        scheduler.add(make_sequence("c", 13, 0))
    assert caught.value.fault == "too_long"
    with pytest.raises(RefusedError, match="may have 12"):
        scheduler.add(make_sequence("d", 12, 1))


def test_a_name_is_here_once() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_sequence("a", 5))
    with pytest.raises(ValueError, match="is here already"):
        scheduler.add(make_sequence("a", 5))


# --- what others have read --------------------------------------------------------------------------------------------


class Warm:
    """A scheduler and a model whose cache is kept from one sequence to the next."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler, self.model = scheduler, ImaginedModel(BLOCK)

    def cached(self, sequence: Answering) -> int:
        """How much of it was found."""
        self.scheduler.add(sequence)
        run_to_the_end(self.scheduler, self.model)
        assert sequence.output_ids == expected_answer(sequence)
        return sequence.num_cached


@pytest.fixture
def warm() -> Warm:
    """Has read 0, 1, ... 11 for salt 0 and answered once."""
    warm = Warm(make_scheduler())
    assert warm.cached(make_sequence("first", range(12), 1)) == 0
    return warm


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ([*range(12), 50], 12),
        ([*range(12)], 8),  # the last token is read in any case
        ([*range(11), 50, 51], 8),
        ([*range(4), 50, *range(5, 12)], 4),
        ([50, *range(1, 12)], 0),
        ([*range(4, 12), 50], 0),
        ([0], 0),
    ],
)
def test_a_prompt_that_begins_alike_is_read_from_where_it_differs(warm: Warm, prompt: list[int], found: int) -> None:
    assert warm.cached(make_sequence("second", prompt)) == found
    assert (pool_of(warm.scheduler).queries, pool_of(warm.scheduler).hits) == (12 + len(prompt), found)


def test_other_salts_share_nothing(warm: Warm) -> None:
    assert warm.cached(make_sequence("second", range(12), salt=1)) == 0
    assert warm.cached(make_sequence("third", range(12), salt=1)) == 8
    assert warm.cached(make_sequence("fourth", range(12), salt=2)) == 0


def test_an_answer_is_found_by_the_turn_that_follows_it(warm: Warm) -> None:
    first = make_sequence("talk", range(20, 26), 9)
    warm.cached(first)
    assert warm.cached(make_sequence("next", [*first.request.prompt_ids, *first.output_ids, 50])) == 12


def test_nothing_is_shared_where_it_is_not_wanted() -> None:
    warm = Warm(make_scheduler(prefix_caching=False))
    assert warm.cached(make_sequence("first", range(12))) == 0
    assert warm.cached(make_sequence("second", range(12))) == 0
    assert (pool_of(warm.scheduler).queries, pool_of(warm.scheduler).hits) == (0, 0)


def test_several_hold_the_same_blocks(warm: Warm) -> None:
    sequences = [make_sequence(f"s{number}", [*range(12), 50 + number]) for number in range(4)]
    add_all(warm.scheduler, *sequences)
    take_step(warm.scheduler, warm.model)
    assert len({tuple(sequence.blocks[:3]) for sequence in sequences}) == 1
    assert pool_of(warm.scheduler).num_free == 100 - 3 - 4
    run_to_the_end(warm.scheduler, warm.model)
    assert pool_of(warm.scheduler).num_free == 100


def test_who_begins_like_what_is_being_read_waits_for_it_and_is_overtaken() -> None:
    scheduler, model = make_scheduler(seqs=8, tokens=16), ImaginedModel(BLOCK)
    siblings = [make_sequence(f"s{number}", range(30), 5) for number in range(4)]
    add_all(scheduler, *siblings, make_sequence("other", 6, 5))
    for expected in ({"s0": 10, "other": 6}, {"s0": 15, "other": 1}):
        step = scheduler.next_step()
        assert lengths(step) == expected
        assert step is not None
        scheduler.advance(step, model.read(step))
    # The last two tokens of the prompt are no full block: every one reads them by itself.
    step = scheduler.next_step()
    assert lengths(step) == {"s0": 5, "other": 1}
    assert step is not None
    scheduler.advance(step, model.read(step))
    assert lengths(scheduler.next_step()) == {"s0": 1, "other": 1, "s1": 2, "s2": 2, "s3": 2}
    run_to_the_end(scheduler, model)
    assert [sequence.num_cached for sequence in siblings] == [0, 28, 28, 28]
    assert all(sequence.output_ids == expected_answer(sequence) for sequence in siblings)
    assert sum(count for (name, _), count in model.places_read.items() if name != "other") == 30 + 3 * 2 + 4 * 4


def test_siblings_do_not_wait_for_one_that_is_gone() -> None:
    scheduler, model = make_scheduler(tokens=8), ImaginedModel(BLOCK)
    first, second = (make_sequence(name, range(30)) for name in ("first", "second"))
    add_all(scheduler, first, second)
    take_step(scheduler, model)
    assert scheduler.running == [first]
    scheduler.finish(first)
    assert lengths(scheduler.next_step()) == {"second": 8}
    assert second.num_cached == 8
    assert run_to_the_end(scheduler, model) == [second]
    assert not scheduler._coming


# --- preemption -------------------------------------------------------------------------------------------------------


def test_the_youngest_gives_up_its_blocks_and_loses_nothing() -> None:
    scheduler, model = make_scheduler(8, seqs=3), ImaginedModel(BLOCK)
    sequences = [make_sequence(f"s{number}", 5, 16) for number in range(3)]
    add_all(scheduler, *sequences)
    assert run_to_the_end(scheduler, model) == sequences
    assert [sequence.output_ids for sequence in sequences] == [expected_answer(sequence) for sequence in sequences]
    assert sequences[0].num_preempted == 0
    assert scheduler.num_preemptions == sum(sequence.num_preempted for sequence in sequences) > 0
    assert pool_of(scheduler).num_free == 8


def test_who_gave_up_its_blocks_comes_before_those_that_wait() -> None:
    scheduler, model = make_scheduler(5, seqs=2), ImaginedModel(BLOCK)
    old, young, late = make_sequence("old", 6, 10), make_sequence("young", 6, 10), make_sequence("late", 1, 1)
    add_all(scheduler, old, young)
    run_until_preempted(scheduler, model)
    scheduler.add(late)
    assert scheduler.waiting == [young, late]
    assert run_to_the_end(scheduler, model) == [old, late, young]
    assert (young.num_cached, young.num_preempted) == (0, 1)


def test_what_it_had_read_is_found_again_if_nobody_needed_it() -> None:
    scheduler, model = make_scheduler(9, seqs=2, tokens=64), ImaginedModel(BLOCK)
    old, young = make_sequence("old", 15, 5), make_sequence("young", 13, 10)
    add_all(scheduler, old, young)
    run_to_the_end(scheduler, model)
    assert young.num_preempted == 1
    assert max(model.places_read.values()) == 1


def test_one_that_takes_the_whole_cache_comes_to_its_end() -> None:
    scheduler, model = make_scheduler(4, seqs=4), ImaginedModel(BLOCK)
    sequences = [make_sequence(f"s{number}", 1 + number, 16 - number) for number in range(4)]
    add_all(scheduler, *sequences)
    run_to_the_end(scheduler, model)
    assert [sequence.output_ids for sequence in sequences] == [expected_answer(sequence) for sequence in sequences]


# --- logits of prompts ------------------------------------------------------------------------------------------------


def told(model: ImaginedModel, name: str) -> list[int]:
    return [count for (each, _), count in sorted(model.places_told.items()) if each == name and count]


def test_logits_of_a_prompt_are_given_once_for_every_token(warm: Warm) -> None:
    model = warm.model
    sequence = make_sequence("told", range(12), 3, sampling=SamplingParams(prompt_logprobs=0))
    assert warm.cached(sequence) == 0
    assert told(model, "told") == [1] * 12
    assert pool_of(warm.scheduler).queries == 12
    assert warm.cached(make_sequence("after", range(12))) == 8


def test_a_step_gives_logits_of_so_many_tokens_at_most() -> None:
    scheduler, model = make_scheduler(200, tokens=512), ImaginedModel(BLOCK)
    wants = SamplingParams(prompt_logprobs=1)
    add_all(scheduler, *(make_sequence(f"s{number}", 90, 2, sampling=wants) for number in range(4)))
    scheduler.add(make_sequence("other", 100))
    while (step := scheduler.next_step()) is not None:
        chunks = [part for part in step.parts if part.wants_all_logits]
        assert sum(len(part.token_ids) for part in chunks) <= MAX_LOGPROB_ROWS
        scheduler.advance(step, model.read(step))
        for part in step.parts:
            if len(part.sequence.output_ids) == part.sequence.request.sampling.max_tokens:
                scheduler.finish(part.sequence)
    for number in range(4):
        assert told(model, f"s{number}") == [1] * 90


def test_logits_that_were_given_are_not_given_again_after_a_preemption() -> None:
    scheduler, model = make_scheduler(12, seqs=3, tokens=8), ImaginedModel(BLOCK)
    wants = SamplingParams(prompt_logprobs=1)
    sequences = [make_sequence(f"s{number}", 9, 20, sampling=wants) for number in range(3)]
    add_all(scheduler, *sequences)
    run_to_the_end(scheduler, model)
    assert scheduler.num_preemptions
    for sequence in sequences:
        assert told(model, sequence.id) == [1] * 9
        assert sequence.output_ids == expected_answer(sequence)


# --- ends and faults --------------------------------------------------------------------------------------------------


def test_finish_takes_a_sequence_from_wherever_it_is() -> None:
    scheduler, model = make_scheduler(5, seqs=2), ImaginedModel(BLOCK)
    old, young, waits = make_sequence("old", 6, 10), make_sequence("young", 6, 10), make_sequence("waits", 6, 4)
    add_all(scheduler, old, young, waits)
    run_until_preempted(scheduler, model)
    for sequence in (waits, young, old, old):
        scheduler.finish(sequence)
    assert (scheduler.num_running, scheduler.num_waiting, pool_of(scheduler).num_free) == (0, 0, 5)
    assert scheduler.next_step() is None


def test_a_sequence_that_ended_during_a_step_is_passed_over() -> None:
    scheduler, model = make_scheduler(), ImaginedModel(BLOCK)
    gone, stays = make_sequence("gone", 5), make_sequence("stays", 5)
    add_all(scheduler, gone, stays)
    step = scheduler.next_step()
    assert step is not None
    chosen = model.read(step)
    scheduler.finish(gone)
    again = make_sequence("gone", 7)
    scheduler.add(again)
    scheduler.advance(step, chosen)
    assert (gone.output_ids, again.num_computed, len(stays.output_ids)) == ([], 0, 1)


def test_a_reset_gives_back_what_was_under_way_and_keeps_what_waits() -> None:
    scheduler, model = make_scheduler(10, seqs=2), ImaginedModel(BLOCK)
    sequences = [make_sequence(f"s{number}", range(10 * number, 10 * number + 9), 30) for number in range(2)]
    waits = make_sequence("waits", range(9), 4)
    add_all(scheduler, *sequences, waits)
    run_until_preempted(scheduler, model)
    assert scheduler.reset() == sequences[:1]
    assert (sequences[0].blocks, sequences[0].num_computed) == ([], 0)
    assert (pool_of(scheduler).num_free, scheduler.num_running) == (10, 0)
    assert scheduler.waiting == [sequences[1], waits]
    model.forget()
    run_to_the_end(scheduler, model)
    assert sequences[1].output_ids == expected_answer(sequences[1])
    assert (waits.output_ids, waits.num_cached) == (expected_answer(waits), 0)
