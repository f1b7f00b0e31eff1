"""A model without numbers: it remembers what lies at each place of the cache and holds every step against it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

from genai.inference.interfaces import Answering, Step
from genai.inference.scheduler import Scheduler
from genai.models.generation import GenerationRequest, SamplingParams


def make_sequence(
    name: str,
    prompt: Sequence[int] | int,
    max_tokens: int = 4,
    *,
    client: str = "",
    salt: int = 0,
    slot: int = 0,
    sampling: SamplingParams | None = None,
) -> Answering:
    """A sequence that is wanted; a number stands for a prompt of that many tokens like no other's."""
    ids = [*prompt] if isinstance(prompt, Sequence) else [_number(name, place) for place in range(prompt)]
    sampling = replace(sampling or SamplingParams(), max_tokens=max_tokens)
    request = GenerationRequest(id=name, model="m", prompt_ids=ids, sampling=sampling, client=client)
    return Answering(request=request, arrival=0.0, adapter_slot=slot, cache_salt=salt)


def expected_answer(sequence: Answering) -> list[int]:
    """What the imagined model answers, whatever else it reads."""
    tokens = list(sequence.request.prompt_ids)
    for _ in range(sequence.request.sampling.max_tokens):
        tokens.append(_next_token(_context(sequence.cache_salt, tokens)))
    return tokens[len(sequence.request.prompt_ids) :]


class ImaginedModel:
    """Reads steps; what it finds in the cache must be what the sequence says lies there.

    Args:
        block_size: of the cache.
    """

    def __init__(self, block_size: int) -> None:
        self.places_read: Counter[tuple[str, int]] = Counter()
        """(sequence, place) -> how often it was read."""
        self.places_told: Counter[tuple[str, int]] = Counter()
        """The same for places whose logits were wanted for the prompt."""
        self.sizes: list[int] = []
        """Tokens of each step."""
        self._block_size = block_size
        self._lies_there: dict[int, bytes] = {}

    def forget(self) -> None:
        self._lies_there.clear()

    def read(self, step: Step) -> dict[str, int]:
        """The token that goes on for each part that wants logits."""
        self._check_order(step)
        self.sizes.append(step.num_tokens)
        written = [slot for part in step.parts for slot in part.slots]
        assert len(set(written)) == len(written), "two tokens were to lie at the same place"
        chosen = {}
        for part in step.parts:
            context = self._read_part(part.sequence, part.start, part.token_ids, part.slots)
            for place in range(part.start, part.stop):
                self.places_read[part.sequence.id, place] += 1
                self.places_told[part.sequence.id, place] += part.wants_all_logits
            assert part.wants_logits == (part.stop == part.sequence.num_tokens)
            if part.wants_logits and len(part.sequence.output_ids) < part.sequence.request.sampling.max_tokens:
                chosen[part.sequence.id] = _next_token(context)
        return chosen

    def _read_part(self, sequence: Answering, start: int, token_ids: list[int], slots: list[int]) -> bytes:
        tokens = sequence.request.prompt_ids + sequence.output_ids
        assert start == sequence.num_computed
        assert token_ids == tokens[start : start + len(token_ids)] != []
        context = _start(sequence.cache_salt)
        for place in range(start):
            context = _go_on(context, tokens[place])
            assert self._lies_there.get(self._slot(sequence, place)) == context, f"{sequence.id} lost place {place}"
        for place, token, slot in zip(range(start, start + len(token_ids)), token_ids, slots, strict=True):
            context = _go_on(context, token)
            assert slot == self._slot(sequence, place) >= self._block_size
            self._lies_there[slot] = context
        return context

    def _slot(self, sequence: Answering, place: int) -> int:
        return sequence.blocks[place // self._block_size] * self._block_size + place % self._block_size

    def _check_order(self, step: Step) -> None:
        assert step.block_size == self._block_size
        lengths = [len(part.token_ids) for part in step.parts]
        assert lengths[: step.num_decodes] == [1] * step.num_decodes
        assert all(length > 1 for length in lengths[step.num_decodes :])
        for parts in (step.parts[: step.num_decodes], step.parts[step.num_decodes :]):
            slots = [part.sequence.adapter_slot for part in parts]
            assert slots == sorted(slots)


def take_step(scheduler: Scheduler, model: ImaginedModel) -> list[Answering]:
    """One step; those whose answer is over by it are finished and returned."""
    step = scheduler.next_step()
    if step is None:
        return []
    scheduler.advance(step, model.read(step))
    over = [
        part.sequence
        for part in step.parts
        if part.wants_logits and len(part.sequence.output_ids) >= part.sequence.request.sampling.max_tokens
    ]
    for sequence in over:
        scheduler.finish(sequence)
    return over


def run_to_the_end(scheduler: Scheduler, model: ImaginedModel, *, max_steps: int = 100_000) -> list[Answering]:
    """All steps until nothing is left; sequences in the order in which they ended."""
    ended: list[Answering] = []
    for _ in range(max_steps):
        if not scheduler.num_running and not scheduler.num_waiting:
            return ended
        before = len(model.sizes)
        ended += take_step(scheduler, model)
        assert len(model.sizes) > before, "there is work, but no step"
    raise AssertionError(f"not at the end after {max_steps} steps")


def _number(name: str, place: int) -> int:
    return int.from_bytes(blake2b(f"{name} {place}".encode(), digest_size=3).digest(), "little")


def _start(salt: int) -> bytes:
    return b"salt %d" % salt


def _go_on(context: bytes, token: int) -> bytes:
    return blake2b(b"%b %d" % (context, token), digest_size=16).digest()


def _context(salt: int, tokens: Sequence[int]) -> bytes:
    context = _start(salt)
    for token in tokens:
        context = _go_on(context, token)
    return context


def _next_token(context: bytes) -> int:
    return context[0] % 3
