"""Attention over blocks against a plain one over whole sequences, in float32."""

import random

import pytest
import torch
from torch import Tensor

from genai.inference.interfaces import Answering, Part, Step
from genai.inference.paged_attention import PagedCache, StepTensors
from genai.models.generation import GenerationRequest

BLOCK_SIZE = 4
HEADS, KV_HEADS, WIDTH = 6, 2, 8
SCALE = WIDTH**-0.5


class Text:
    """A sequence with random queries, keys and values for every place."""

    def __init__(self, name: str, length: int, blocks: list[int]) -> None:
        self.query_LHE = torch.randn(length, HEADS, WIDTH)
        self.key_LKE = torch.randn(length, KV_HEADS, WIDTH)
        self.value_LKE = torch.randn(length, KV_HEADS, WIDTH)
        request = GenerationRequest(id=name, model="", prompt_ids=[1] * length)
        self.sequence = Answering(request=request, arrival=0.0, blocks=blocks)

    def part(self, start: int, stop: int, *, all_logits: bool = False) -> Part:
        slots = [self.sequence.blocks[at // BLOCK_SIZE] * BLOCK_SIZE + at % BLOCK_SIZE for at in range(start, stop)]
        return Part(self.sequence, start, list(range(start, stop)), slots, True, all_logits)


def plain(text: Text, start: int, stop: int, window: int | None = None, softcap: float | None = None) -> Tensor:
    key_HLE = text.key_LKE[:stop].repeat_interleave(HEADS // KV_HEADS, 1).transpose(0, 1)
    value_HLE = text.value_LKE[:stop].repeat_interleave(HEADS // KV_HEADS, 1).transpose(0, 1)
    scores_HCL = text.query_LHE[start:stop].transpose(0, 1) @ key_HLE.transpose(1, 2) * SCALE
    if softcap is not None:
        scores_HCL = softcap * torch.tanh(scores_HCL / softcap)
    distance_CL = torch.arange(start, stop)[:, None] - torch.arange(stop)
    hidden_CL = (distance_CL < 0) | (distance_CL >= (window or stop))
    weights_HCL = scores_HCL.masked_fill(hidden_CL, -torch.inf).softmax(-1)
    return (weights_HCL @ value_HLE).transpose(0, 1)


def new_cache(num_blocks: int = 400) -> PagedCache:
    return PagedCache(
        num_layers=2,
        num_blocks=num_blocks,
        block_size=BLOCK_SIZE,
        num_kv_heads=KV_HEADS,
        head_dim=WIDTH,
        dtype=torch.float32,
    )


def attend(cache: PagedCache, reads: list[tuple[Text, int, int]], layer: int = 0, **kind: float | None) -> list[Tensor]:
    reads = sorted(reads, key=lambda read: read[2] - read[1] > 1)
    parts = [text.part(start, stop) for text, start, stop in reads]
    step = Step(parts, sum(stop - start == 1 for _, start, stop in reads), BLOCK_SIZE)
    query, key, value = (
        torch.cat([getattr(text, name)[start:stop] for text, start, stop in reads])
        for name in ("query_LHE", "key_LKE", "value_LKE")
    )
    out = StepTensors(step, cache).attend(layer, query, key, value, SCALE, **kind)  # type: ignore[arg-type]
    return list(out.split([len(part.token_ids) for part in parts]))


@pytest.mark.parametrize("kind", [{}, {"window": 5}, {"softcap": 0.7}, {"window": 3, "softcap": 2.0}])
@pytest.mark.parametrize("seed", range(4))
def test_any_mix_of_answers_and_chunks_equals_whole_sequences(seed: int, kind: dict[str, float]) -> None:
    torch.manual_seed(seed)
    dice = random.Random(seed)
    cache = new_cache()
    free = dice.sample(range(1, 400), 399)
    texts = [Text(str(at), dice.choice([3, 9, 40, 150]), []) for at in range(9)]
    for text in texts:
        text.sequence.blocks = [free.pop() for _ in range(-(-len(text.key_LKE) // BLOCK_SIZE))]
    done = dict.fromkeys(texts, 0)
    while any(done[text] < len(text.key_LKE) for text in texts):
        open_texts = [text for text in texts if done[text] < len(text.key_LKE)]
        reads = []
        for text in dice.sample(open_texts, dice.randint(1, len(open_texts))):
            left = len(text.key_LKE) - done[text]
            reads.append((text, done[text], done[text] + min(left, dice.choice([1, 1, 2, 7, 140]))))
        reads.sort(key=lambda read: read[2] - read[1] > 1)
        for (text, start, stop), found in zip(reads, attend(cache, reads, **kind), strict=True):
            expected = plain(text, start, stop, **kind)  # type: ignore[arg-type]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
            done[text] = stop


def test_lengths_far_apart_are_read_in_batches_of_their_own() -> None:
    torch.manual_seed(0)
    cache = new_cache()
    texts = [Text("long", 1000, list(range(1, 251)))]
    texts += [Text(str(at), 6, [251 + 2 * at, 252 + 2 * at]) for at in range(20)]
    for text in texts:
        attend(cache, [(text, 0, len(text.key_LKE) - 1)])
    reads = [(text, len(text.key_LKE) - 1, len(text.key_LKE)) for text in [*texts[1:10], texts[0], *texts[10:]]]
    tensors = StepTensors(Step([text.part(start, stop) for text, start, stop in reads], len(reads), BLOCK_SIZE), cache)
    assert len(tensors._reads) == 2
    for (text, start, stop), found in zip(reads, attend(cache, reads), strict=True):
        torch.testing.assert_close(found, plain(text, start, stop), atol=1e-5, rtol=1e-5)


def test_a_block_that_another_sequence_had_is_as_good_as_new() -> None:
    torch.manual_seed(0)
    cache = new_cache(3)
    attend(cache, [(Text("before", 8, [2, 1]), 0, 8)])
    text = Text("after", 7, [1, 2])
    attend(cache, [(text, 0, 5)])
    (found,) = attend(cache, [(text, 5, 6)])
    torch.testing.assert_close(found, plain(text, 5, 6), atol=1e-6, rtol=1e-5)


def test_layers_have_caches_of_their_own() -> None:
    torch.manual_seed(0)
    cache = new_cache()
    first, second = Text("a", 6, [1, 2]), Text("a", 6, [1, 2])
    for layer, text in enumerate((first, second)):
        attend(cache, [(text, 0, 5)], layer=layer)
    for layer, text in enumerate((first, second)):
        (found,) = attend(cache, [(text, 5, 6)], layer=layer)
        torch.testing.assert_close(found, plain(text, 5, 6), atol=1e-6, rtol=1e-5)


def test_numbers_that_are_not_finite_are_taken_out_of_the_cache() -> None:
    torch.manual_seed(0)
    cache = new_cache(3)
    bad = Text("bad", 8, [1, 2])
    bad.value_LKE[:] = torch.nan
    attend(cache, [(bad, 0, 8)])
    StepTensors(Step([bad.part(0, 8)], 0, BLOCK_SIZE), cache).clear(torch.ones(8, dtype=torch.bool))
    good = Text("good", 6, [1, 2])
    attend(cache, [(good, 0, 5)])
    (found,) = attend(cache, [(good, 5, 6)])
    torch.testing.assert_close(found, plain(good, 5, 6), atol=1e-6, rtol=1e-5)


def test_who_reads_what_was_taken_out_gets_no_numbers_and_nobody_else() -> None:
    torch.manual_seed(0)
    cache = new_cache(5)
    bad, good = Text("bad", 12, [1, 2, 4]), Text("good", 4, [3])
    parts = [bad.part(0, 6), good.part(0, 3)]
    attend(cache, [(bad, 0, 6), (good, 0, 3)])
    StepTensors(Step(parts, 0, BLOCK_SIZE), cache).clear(torch.arange(9) == 2)
    found_good, found_bad = attend(cache, [(good, 3, 4), (bad, 6, 9)])
    assert found_bad.isnan().all()
    torch.testing.assert_close(found_good, plain(good, 3, 4), atol=1e-6, rtol=1e-5)
    after = Text("after", 4, [1])
    (found,) = attend(cache, [(after, 0, 4)])
    torch.testing.assert_close(found, plain(after, 0, 4), atol=1e-6, rtol=1e-5)
    assert cache.spoiled == set()


def test_rows_of_which_logits_are_wanted() -> None:
    text, other = Text("a", 8, [1, 2]), Text("b", 3, [3])
    quiet = text.part(1, 4)
    parts = [other.part(2, 3), Part(quiet.sequence, 1, quiet.token_ids, quiet.slots, False), text.part(4, 8)]
    parts.append(other.part(0, 2, all_logits=True))
    tensors = StepTensors(Step(parts, 1, BLOCK_SIZE), new_cache())
    assert tensors.logits_rows_R.tolist() == [0, 7, 8, 9]
    assert tensors.positions_T.tolist() == [2, 1, 2, 3, 4, 5, 6, 7, 0, 1]


def test_a_step_without_wanted_logits_has_no_rows() -> None:
    part = Text("a", 8, [1, 2]).part(0, 4)
    tensors = StepTensors(Step([Part(part.sequence, 0, part.token_ids, part.slots, False)], 0, BLOCK_SIZE), new_cache())
    assert tensors.logits_rows_R.shape == (0,)
