"""Answers from a model, token by token, in plain PyTorch with the model's own key-value cache.

Shapes: B is the batch (always 1 here), T the length of the prompt, V the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from genai.errors import DataError
from genai.models.chat_template import render, stop_token_ids

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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
