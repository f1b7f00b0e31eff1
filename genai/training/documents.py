"""Several documents in one row: where each begins, and how a model is kept from looking across the border.

There are three ways of telling a model. Which one it understands is tried on the model itself, with two small
documents, because none is safe to assume: transformers' detection of packed positions is switched off without a word by
an all-ones attention mask, and models with code of their own may ignore positions altogether.

Shapes: B rows, S positions, D hidden size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from genai.errors import GenaiError
from genai.log import get_logger
from genai.training import attention

_log = get_logger(__name__)

IGNORED = -100
"""Label of a token that is not trained."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A microbatch on its way into the decoder."""

    input_ids_BS: torch.Tensor
    position_ids_BS: torch.Tensor
    """Start again at 0 with each document."""
    starts_BS: torch.Tensor
    """For each position the index in its row of its document's first token."""
    packed: bool
    """Whether a row holds more than one document."""


def document_starts(position_ids_BS: torch.Tensor, labels_BS: torch.Tensor) -> torch.Tensor:
    """For each position the index in its row of its document's first token, int64 (B, S).

    Documents behind a row's last trained token (padding above all) count as part of the one before: nothing that is
    trained can see them.

    Args:
        position_ids_BS: 0 at the first token of each document.
        labels_BS: `IGNORED` where not trained.
    """
    columns_S = torch.arange(position_ids_BS.shape[1], device=position_ids_BS.device)
    last_B1 = ((labels_BS != IGNORED) * columns_S).amax(1, keepdim=True)
    is_start_BS = (position_ids_BS == 0) & (columns_S <= last_B1)
    return (is_start_BS * columns_S).cummax(1).values


class PackingMethod(Protocol):
    """A way of telling a model where documents begin."""

    def arguments(self, tokens: Tokens) -> dict[str, torch.Tensor]:
        """Keyword arguments of the decoder's forward pass."""


class PackedPositions:
    """Positions that start again; transformers builds the mask, or its flash attention the lengths, from them."""

    def __init__(self, decoder: nn.Module, attn_implementation: str) -> None:
        self._takes_positions = "position_ids" in inspect.signature(decoder.forward).parameters
        # Flash attention looks for packed positions in a single row only.
        self._one_row = attn_implementation.startswith("flash_attention")

    def arguments(self, tokens: Tokens) -> dict[str, torch.Tensor]:
        rows = {"input_ids": tokens.input_ids_BS}
        if self._takes_positions:
            rows["position_ids"] = tokens.position_ids_BS
        return {name: each.reshape(1, -1) for name, each in rows.items()} if self._one_row and tokens.packed else rows


class ExplicitMask(PackedPositions):
    """Positions and a mask of shape (B, 1, S, S), for models that do not build one from positions."""

    def __init__(self, decoder: nn.Module, attn_implementation: str, dtype: torch.dtype) -> None:
        super().__init__(decoder, attn_implementation)
        self._additive = dtype if attn_implementation == "eager" else None

    def arguments(self, tokens: Tokens) -> dict[str, torch.Tensor]:
        rows = super().arguments(tokens)
        if not tokens.packed:
            return rows
        query_BS1, key_S = (
            tokens.starts_BS[:, :, None],
            torch.arange(tokens.starts_BS.shape[1], device=tokens.starts_BS.device),
        )
        seen_BSS = (key_S >= query_BS1) & (key_S <= key_S[:, None])
        mask_B1SS = seen_BSS[:, None]
        if self._additive is not None:
            floor = torch.finfo(self._additive).min
            mask_B1SS = torch.zeros(mask_B1SS.shape, dtype=self._additive, device=mask_B1SS.device).masked_fill_(
                ~mask_B1SS, floor
            )
        return {**rows, "attention_mask": mask_B1SS}


class DocumentTiles:
    """Our own attention on a CPU, for packed and plain rows alike."""

    def arguments(self, tokens: Tokens) -> dict[str, torch.Tensor]:
        return {
            "input_ids": tokens.input_ids_BS,
            "position_ids": tokens.position_ids_BS,
            "attention_mask": attention.document_mask(tokens.starts_BS),
        }


class NoPacking(PackedPositions):
    """For a model that looks across documents whatever it is told: rows with several are refused."""

    def arguments(self, tokens: Tokens) -> dict[str, torch.Tensor]:
        if tokens.packed:
            raise GenaiError(
                "this model's attention does not keep the documents of a packed row apart",
                where="train_loader.dataset.packing_ratio",
                fix="set packing_ratio: null",
            )
        return super().arguments(tokens)


HiddenStates = Callable[[Tokens, PackingMethod], torch.Tensor]
"""Runs the decoder; (B, S, D)."""


def choose_packing(
    model: Any, decoder: nn.Module, hidden_states: HiddenStates, *, device: torch.device
) -> PackingMethod:
    """The fastest method that keeps documents apart in this model; its attention implementation may be changed for it.

    Args:
        model: the causal language model of transformers.
        decoder: its decoder.
        hidden_states: runs the decoder without a gradient and without dropout.
        device: where the model lies.
    """
    vocab_size = int(model.config.get_text_config().vocab_size)
    if device.type == "cpu" and _can_use_tiles(model):
        before = model.config._attn_implementation
        attention.register()
        model.set_attn_implementation(attention.IMPLEMENTATION)
        if _keeps_apart(DocumentTiles(), hidden_states, vocab_size, device):
            return DocumentTiles()
        model.set_attn_implementation(before)
    implementation = model.config._attn_implementation
    methods: list[PackingMethod] = [PackedPositions(decoder, implementation)]
    if not getattr(model.config.get_text_config(), "sliding_window", None):
        methods.append(ExplicitMask(decoder, implementation, next(decoder.parameters()).dtype))
    for method in methods:
        if _keeps_apart(method, hidden_states, vocab_size, device):
            return method
    return NoPacking(decoder, implementation)


def likely_packing(model: Any, decoder: nn.Module, device: torch.device) -> PackingMethod:
    """What `choose_packing` will come to, as far as that can be told without running the model."""
    if device.type == "cpu" and _can_use_tiles(model):
        attention.register()
        model.set_attn_implementation(attention.IMPLEMENTATION)
        return DocumentTiles()
    return PackedPositions(decoder, model.config._attn_implementation)


def _can_use_tiles(model: Any) -> bool:
    config = model.config.get_text_config()
    special = ("sliding_window", "attention_chunk_size", "attention_dropout", "attn_pdrop", "attn_logit_softcapping")
    return (
        model.config._attn_implementation in ("sdpa", attention.IMPLEMENTATION)
        and not any(getattr(config, name, None) for name in special)
        and set(getattr(config, "layer_types", None) or ()) <= {"full_attention"}
    )


def probe_tokens(documents: list[list[int]], vocab_size: int, device: torch.device) -> Tokens:
    """One row with the given documents one after another; token ids are taken modulo the vocabulary."""
    ids = torch.tensor([[token % vocab_size for document in documents for token in document]], device=device)
    positions = torch.tensor([[index for document in documents for index in range(len(document))]], device=device)
    return Tokens(
        input_ids_BS=ids,
        position_ids_BS=positions,
        starts_BS=document_starts(positions, ids),
        packed=len(documents) > 1,
    )


def _keeps_apart(method: PackingMethod, hidden_states: HiddenStates, vocab_size: int, device: torch.device) -> bool:
    """Whether a document's hidden states are those it has at the head of a row, and do not move with its neighbour."""
    first, other, second = [11, 7, 5, 3, 2], [4, 9, 8, 6, 10], [13, 3, 17, 2, 19, 5]
    # All rows have one length: kernels round differently at another one, and experts may then be chosen differently.
    batches = [
        probe_tokens(documents, vocab_size, device)
        for documents in ([first, second], [other, second], [[*second, *first]])
    ]
    try:
        packed, moved, leading = (hidden_states(tokens, method)[0].float() for tokens in batches)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        _log.debug("%s does not run on this model: %s", type(method).__name__, error)
        return False
    packed, moved, leading = packed[len(first) :], moved[len(first) :], leading[: len(second)]
    scale = float(leading.abs().max())
    return bool((packed - moved).abs().max() <= 1e-5 * scale and (packed - leading).abs().max() <= 0.05 * scale)


@contextmanager
def probing(model: nn.Module) -> Iterator[None]:
    """No gradient and no dropout inside; every module is left in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
