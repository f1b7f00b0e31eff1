"""A model without arithmetic for tests of the engine: its next token depends on all before, as the cache has them.

Its cache holds tokens in place of keys and values, so a wrong slot, a block of somebody else or a token that was never
read gives another answer than `expected_answer`.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from genai.config.serve import LocalEngineConfig
from genai.inference.adapters import AdapterBank
from genai.inference.engine import LocalEngine
from genai.inference.interfaces import Part, Step
from genai.inference.opening import OpenedModel
from genai.models.generation import Event, GenerationRequest, SamplingParams

END = 256
"""The toy's own end."""
NUM_TOKENS = 260
"""V: a token for each byte, the end, and three that say nothing."""
POISON, BOMB = 258, 259
"""Tokens of prompts: no number comes out; the whole step fails."""
DEADLINE_S = 120.0


def next_token(tokens: Sequence[int], slot: int = 0, *, ends: bool = False) -> int:
    """What the toy says after these tokens: a letter, or now and then its end."""
    digest = hashlib.blake2b(repr((list(tokens), slot)).encode(), digest_size=2).digest()
    return END if ends and digest[1] < 8 else 97 + digest[0] % 26


def expected_answer(prompt: Sequence[int], count: int, slot: int = 0, *, ends: bool = False) -> list[int]:
    """What it answers, alone."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(tokens, slot, ends=ends))
        if tokens[-1] == END:
            break
    return tokens[len(prompt) :]


@dataclass(eq=False)
class ToyRunner:
    """See `genai.inference.interfaces.Runner`."""

    vocab_size: int = NUM_TOKENS
    max_positions: int = 4096
    kv_bytes_per_token: int = 8
    weight_bytes: int = 0
    ends: bool = False
    delay_s: float = 0.0
    fault: BaseException | None = None
    """Raised by every step, while it is set."""
    is_closed: bool = False
    steps: list[tuple[int, int]] = field(default_factory=list)
    """Sequences and tokens of each step."""
    seconds: float = 0.0
    """Of the processor, spent in here by its thread."""
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    """Set whenever a step has begun."""

    def __post_init__(self) -> None:
        self.gate.set()

    def allocate(self, num_blocks: int, block_size: int) -> None:
        self._cache = [-1] * (num_blocks * block_size)

    def forward(self, step: Step) -> torch.Tensor:
        begun = time.thread_time()
        self.entered.set()
        assert self.gate.wait(DEADLINE_S)
        time.sleep(self.delay_s)
        assert all(len(part.token_ids) == 1 for part in step.parts[: step.num_decodes])
        self.steps.append((len(step.parts), step.num_tokens))
        rows = [row for part in step.parts for row in self._rows(part, step.block_size)]
        if self.fault is not None:
            raise self.fault
        self.seconds += time.thread_time() - begun
        return torch.stack(rows) if rows else torch.zeros(0, self.vocab_size)

    def close(self) -> None:
        self.is_closed = True

    def _rows(self, part: Part, block_size: int) -> list[torch.Tensor]:
        sequence, cache = part.sequence, self._cache
        for slot, token in zip(part.slots, part.token_ids, strict=True):
            assert slot >= block_size or sequence.id == "probe"
            cache[slot] = token
        if BOMB in part.token_ids:
            raise RuntimeError("the step exploded")
        context = [cache[sequence.blocks[at // block_size] * block_size + at % block_size] for at in range(part.stop)]
        ends = range(part.start + 1, part.stop + 1) if part.wants_all_logits else [part.stop] * part.wants_logits
        return [self._row(context[:end], sequence.adapter_slot) for end in ends]

    def _row(self, context: list[int], slot: int) -> torch.Tensor:
        if POISON in context:
            return torch.full((self.vocab_size,), float("nan"))
        row = torch.zeros(self.vocab_size)
        row[next_token(context, slot, ends=self.ends)] = 20.0
        return row


class Answers:
    """Where events arrive: everything of each request, put together."""

    def __init__(self) -> None:
        self.batches: list[list[Event]] = []
        self._events: dict[str, list[Event]] = {}
        self._changed = threading.Condition()

    def __call__(self, events: list[Event]) -> None:
        with self._changed:
            assert len({event.id for event in events}) == len(events), "one event a step for each answer"
            self.batches.append(events)
            for event in events:
                mine = self._events.setdefault(event.id, [])
                assert not mine or mine[-1].finish_reason is None, "nothing comes after the last event"
                mine.append(event)
            self._changed.notify_all()

    def wait(self, request_id: str) -> list[Event]:
        """All events of a request, once it is over."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.is_over(request_id), DEADLINE_S), request_id
            return self._events[request_id]

    def last(self, request_id: str) -> Event:
        return self.wait(request_id)[-1]

    def tokens(self, request_id: str) -> list[int]:
        return [token for event in self.wait(request_id) for token in event.token_ids]

    def text(self, request_id: str) -> str:
        return "".join(event.text for event in self.wait(request_id))

    def so_far(self, request_id: str) -> list[Event]:
        with self._changed:
            return list(self._events.get(request_id, ()))

    def is_over(self, request_id: str) -> bool:
        events = self._events.get(request_id)
        return bool(events) and events[-1].finish_reason is not None


def write_tokenizer(folder: Path) -> Path:
    """tokenizer.json with a token for each byte, and the end."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = _byte_letters()
    tokenizer = Tokenizer(models.BPE(vocab={letter: byte for byte, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def open_toy(runner: ToyRunner, tokenizer_file: Path, *, max_model_len: int = 256) -> OpenedModel:
    """The toy as if it had been loaded."""
    return OpenedModel(
        runner=runner,
        bank=AdapterBank({}, max_adapters=2, max_rank=8, dtype=torch.float32),
        resolved=cast("Any", None),
        tokenizer_file=tokenizer_file,
        stop_token_ids=[END],
        max_model_len=max_model_len,
        vocab_size=runner.vocab_size,
        config={},
    )


def start_toy(
    tokenizer_file: Path, answers: Answers, runner: ToyRunner | None = None, *, max_model_len: int = 256, **config: Any
) -> LocalEngine:
    """An engine with the toy."""
    settings = {"max_num_seqs": 4, "max_num_batched_tokens": 32, "block_size": 4, "max_waiting": 100, **config}
    opened = open_toy(runner or ToyRunner(), tokenizer_file, max_model_len=max_model_len)
    return LocalEngine("toy", opened, config=LocalEngineConfig(**settings), emit=answers, grammar_timeout_s=5.0)


def ask(request_id: str, prompt: str | Sequence[int] = "hello", **changes: Any) -> GenerationRequest:
    """A greedy request; `changes` are of the request where it has such a field, else of its sampling."""
    own = {name: changes.pop(name) for name in ("adapter", "grammar", "client", "timeout_s") if name in changes}
    ids = list(prompt.encode() if isinstance(prompt, str) else prompt)
    sampling = SamplingParams(**{"temperature": 0.0, "max_tokens": 8, **changes})
    return GenerationRequest(id=request_id, model="toy", prompt_ids=ids, sampling=sampling, **own)


def _byte_letters() -> list[str]:
    """The letters that byte-level BPE writes for the bytes 0 to 255."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
