"""Answers from a model, token by token, in plain PyTorch with the model's own key-value cache.

Shapes: B is the batch (1 in a conversation), T the length of the prompt, P of what all prompts of a batch begin with, V
the vocabulary.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from genai.errors import DataError
from genai.models.chat_template import render, stop_token_ids

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen, and when an answer is over."""

    max_new_tokens: int = 256
    """Where to stop if the model does not."""
    temperature: float = 0.0
    """0 takes the likeliest token; above, the share of luck."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that together have this probability."""
    one_line: bool = False
    """An answer is over with its first line that says something."""


_LIKELY = 256
"""Tokens that are looked at first: to sort a whole vocabulary takes as long as a quarter of the model."""
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What decoding gives for the first bytes of a character whose others are still to come."""


def stream_chat(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, Any]],
    *,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 17,
) -> Iterator[str]:
    """The assistant's next turn, in pieces of text as they come.

    Args:
        model: in evaluation mode.
        tokenizer: the model's, with a chat template.
        messages: the conversation so far, `{"role", "content"}` each.
        max_new_tokens: where to stop if the model does not.
        temperature: 0 takes the likeliest token; above, the share of luck.
        top_p: draw among the likeliest tokens that together have this probability.
        seed: the same seed, the same answer on the same machine.

    Raises:
        DataError: the conversation is as long as the model's context, or its template refuses it.
    """
    prompt = render(tokenizer, messages, add_generation_prompt=True)
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    room = model.config.max_position_embeddings - len(prompt_ids)
    if room <= 0:
        raise DataError(f"the conversation has {len(prompt_ids)} tokens and the model's context is full")
    stop = set(stop_token_ids(tokenizer, getattr(model.generation_config, "eos_token_id", None)))
    new_ids: list[int] = []
    shown = 0
    for token in _tokens(model, prompt_ids, min(max_new_tokens, room), temperature, top_p, seed):
        if token in stop:
            break
        new_ids.append(token)
        # Decode from the last place where the text was whole: a token may be part of a character, or join with others.
        text = _joined(tokenizer, new_ids, shown)
        if text and not text.endswith(_UNFINISHED):
            yield text
            shown = len(new_ids)
    if shown < len(new_ids):
        yield _joined(tokenizer, new_ids, shown)


def answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], **options: Any
) -> str:
    """The assistant's next turn as one text; `options` are those of `stream_chat`."""
    return "".join(stream_chat(model, tokenizer, messages, **options))


def generate_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    seeds: Sequence[int],
    sampling: Sampling,
    batch_size: int = 8,
) -> list[str]:
    """An answer to each prompt, several at a time.

    A prompt's answer depends on its own seed, not on what else is in the batch (but for rounding, which in bfloat16
    can tip a choice). What the prompts of a batch begin with in common is read once.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        prompts: tokens of each.
        seeds: of each.
        sampling: how tokens are chosen.
        batch_size: prompts at a time; those of like length go together.

    Raises:
        DataError: a prompt is as long as the model's context.
    """
    stop = frozenset(stop_token_ids(tokenizer, getattr(model.generation_config, "eos_token_id", None)))
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        rows = _Rows(
            prompts=[list(prompts[place]) for place in places], seeds=[seeds[place] for place in places], stop=stop
        )
        for place, text in zip(places, _answers(model, tokenizer, rows, sampling), strict=True):
            answers[place] = text
    return answers


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """What is put to a model at once."""

    prompts: list[list[int]]
    seeds: list[int]
    stop: frozenset[int]
    """Tokens that end an answer."""


def _answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: _Rows, sampling: Sampling) -> list[str]:
    import torch

    longest = max(map(len, rows.prompts))
    room = model.config.max_position_embeddings - longest
    if room <= 0:
        raise DataError(
            f"a prompt has {longest} tokens and the model reads {model.config.max_position_embeddings}",
            fix="take shorter chunks, or a model with a longer context",
        )
    count = min(sampling.max_new_tokens, room)
    draws = [torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in rows.seeds]
    draws_BT = torch.stack(draws).to(model.device)
    new_ids: list[list[int]] = [[] for _ in rows.prompts]
    with torch.inference_mode():
        reading = _Reading(model, rows.prompts)
        going = set(reading.rows)
        for step in range(count):
            tokens = _choose_rows(reading.logits_BV, sampling, draws_BT[reading.rows, step]).tolist()
            chosen = dict(zip(reading.rows, tokens, strict=True))
            for row in list(going):
                if chosen[row] in rows.stop:
                    going.remove(row)
                    continue
                new_ids[row].append(chosen[row])
                if sampling.one_line and _has_line(tokenizer, new_ids[row]):
                    going.remove(row)
            if not going or step == count - 1:
                break
            reading.leave_out(set(reading.rows) - going)
            reading.go_on([chosen[row] for row in reading.rows])
    return [str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in new_ids]


def _has_line(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> bool:
    """Whether a line that says something has ended."""
    return "\n" in str(tokenizer.decode(ids, skip_special_tokens=True)).lstrip()


class _Reading:
    """A batch of prompts that a model has read, and what it makes of the next token.

    Rows are padded on the left, behind what they have in common, so that all of them end at the same place.

    Args:
        model: in evaluation mode.
        prompts: tokens of each row.
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> None:
        import torch

        self._model = model
        self.rows = list(range(len(prompts)))
        """Those that are still read."""
        # Where places are not told to the model it counts them itself, and padding may stand at the very front only.
        self._tells_places = "position_ids" in inspect.signature(model.forward).parameters
        shared = _shared_length(prompts) if self._tells_places and len(prompts) > 1 else 0
        self._cache: Any = self._read_shared(prompts[0][:shared], len(prompts)) if shared else None
        shared = 0 if self._cache is None else shared
        width = max(map(len, prompts)) - shared
        ids_BT = torch.zeros((len(prompts), width), dtype=torch.long)
        mask_BT = torch.zeros((len(prompts), shared + width), dtype=torch.long)
        mask_BT[:, :shared] = 1
        for row, prompt in enumerate(prompts):
            ids_BT[row, shared + width - len(prompt) :] = torch.tensor(prompt[shared:])
            mask_BT[row, shared + shared + width - len(prompt) :] = 1
        self._mask_BT = mask_BT.to(model.device)
        self.logits_BV = self._read(ids_BT.to(model.device))
        """What comes next, float32."""

    def leave_out(self, over: Collection[int]) -> None:
        """Read these rows no longer, once they are half of all: leaving out copies what was read of the others."""
        import torch

        if 2 * len(over) < len(self.rows) or not _is_plain(self._cache):
            return
        places = [place for place, row in enumerate(self.rows) if row not in over]
        self.rows = [self.rows[place] for place in places]
        chosen = torch.tensor(places, device=self._model.device)
        self._cache.batch_select_indices(chosen)
        self._mask_BT = self._mask_BT[chosen]

    def go_on(self, tokens: Sequence[int]) -> None:
        """Read one more token of each row."""
        import torch

        ids_B1 = torch.tensor([[token] for token in tokens], device=self._model.device)
        self._mask_BT = torch.cat([self._mask_BT, torch.ones_like(ids_B1)], dim=1)
        self.logits_BV = self._read(ids_B1)

    def _read(self, ids_BT: torch.Tensor) -> torch.Tensor:
        places_BT = (self._mask_BT.cumsum(-1) - 1).clamp_min(0)[:, -ids_BT.shape[1] :]
        places = {"position_ids": places_BT} if self._tells_places else {}
        output = self._model(
            input_ids=ids_BT,
            attention_mask=self._mask_BT,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            **places,
        )
        self._cache = output.past_key_values
        return cast("torch.Tensor", output.logits[:, -1].float())

    def _read_shared(self, ids: Sequence[int], num_rows: int) -> Any:
        """The cache of what all rows begin with; None where it is no plain one: padding may not follow it then."""
        import torch

        cache = self._model(
            input_ids=torch.tensor([list(ids)], device=self._model.device), use_cache=True, logits_to_keep=1
        ).past_key_values
        if not _is_plain(cache):
            return None
        cache.batch_repeat_interleave(num_rows)
        return cache


def _is_plain(cache: Any) -> bool:
    """Whether a cache holds keys and values of all places, and nothing else."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    return type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers)


def _shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all begin with; each keeps one at least, behind which its answer begins."""
    alike = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False))
    return min(sum(1 for _ in alike), min(map(len, prompts)) - 1)


def _choose_rows(logits_BV: torch.Tensor, sampling: Sampling, draws_B: torch.Tensor) -> torch.Tensor:
    """The next token of each row, (B,): where its draw, even in [0, 1), falls among the likeliest tokens."""
    import torch

    if sampling.temperature <= 0:
        return logits_BV.argmax(-1)
    probabilities_BV = torch.softmax(logits_BV / sampling.temperature, dim=-1)
    ordered_BV, order_BV = probabilities_BV.topk(min(_LIKELY, probabilities_BV.shape[-1]))
    if not bool((ordered_BV.sum(-1) >= sampling.top_p).all()):
        ordered_BV, order_BV = probabilities_BV.sort(descending=True)
    if sampling.top_p < 1:
        ordered_BV = ordered_BV.masked_fill(ordered_BV.cumsum(-1) - ordered_BV >= sampling.top_p, 0)
    ends_BV = ordered_BV.cumsum(-1)
    places_B = (ends_BV <= (draws_B * ends_BV[:, -1])[:, None]).sum(-1)
    # Rounding may put a draw close to 1 behind the last token that counts.
    places_B = torch.minimum(places_B, (ordered_BV > 0).sum(-1) - 1)
    return order_BV.gather(1, places_B[:, None])[:, 0]


def _joined(tokenizer: PreTrainedTokenizerBase, ids: list[int], shown: int) -> str:
    """The text of `ids[shown:]` as it stands behind `ids[:shown]`: some decoders drop a space at the beginning."""
    before = ids[max(0, shown - 8) : shown]
    prefix = str(tokenizer.decode(before, skip_special_tokens=True))
    return str(tokenizer.decode([*before, *ids[shown:]], skip_special_tokens=True))[len(prefix) :]


def _tokens(
    model: PreTrainedModel, prompt_ids: Sequence[int], max_new_tokens: int, temperature: float, top_p: float, seed: int
) -> Iterator[int]:
    import torch

    generator = torch.Generator(device=model.device).manual_seed(seed)
    input_ids_BT = torch.tensor([list(prompt_ids)], device=model.device)
    cache = None
    for _ in range(max_new_tokens):
        # Not a `with` around the yield: the caller's own code must not run in inference mode.
        with torch.inference_mode():
            output = model(input_ids=input_ids_BT, past_key_values=cache, use_cache=True, logits_to_keep=1)
            token = _choose(output.logits[0, -1].float(), temperature, top_p, generator)
        cache = output.past_key_values
        input_ids_BT = torch.tensor([[token]], device=model.device)
        yield token


def _choose(logits_V: torch.Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    import torch

    if temperature <= 0:
        return int(logits_V.argmax())
    probabilities_V = torch.softmax(logits_V / temperature, dim=-1)
    if top_p < 1:
        ordered_V, order_V = probabilities_V.sort(descending=True)
        # Keep every token whose better ones leave room: the best one always stays.
        ordered_V[ordered_V.cumsum(-1) - ordered_V >= top_p] = 0
        probabilities_V = torch.zeros_like(probabilities_V).scatter(0, order_V, ordered_V)
    return int(torch.multinomial(probabilities_V, 1, generator=generator))
