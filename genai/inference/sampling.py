"""Choosing the next token of each answer of a step, every one by its own parameters.

The order of things is that of transformers and vLLM: penalties, bias, ends forbidden by min_tokens, constraint,
temperature, top-k, top-p, min-p. Luck is counter-based: the draw for token t of an answer is a function of its seed and
t and of nothing else, so neither the other answers of a step nor a preemption changes what is chosen.

Shapes: R rows; C rows of one kind; V vocabulary; W = ceil(V / 32) numbers of a mask; K tokens that are looked at;
N blocks of B tokens.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from genai.inference.interfaces import Answering, RefusedError, Sampled
from genai.inference.logprobs import token_logprobs
from genai.inference.penalties import Penalties, has_penalties
from genai.models.generation import SamplingParams

if TYPE_CHECKING:
    import torch

_LIKELY = 256
"""Tokens that are looked at first: to sort a whole vocabulary takes as long as a quarter of a small model."""
_LESS_LIKELY = 4096
"""Tokens that are looked at next, where those are not enough."""
_BLOCK = 256
"""Tokens whose probabilities are added up first, when one is drawn from the whole vocabulary."""
_COLDEST = 1e-5
"""A temperature below is 0, as in vLLM."""
_DRAW_BYTES = 6
"""So that a draw times a total is always less than the total in double precision."""
_MOST_PENALTY = 2.0


def check_sampling(params: SamplingParams, vocab_size: int) -> None:
    """Refuse what cannot be carried out.

    Args:
        params: of a request.
        vocab_size: tokens that the model knows.

    Raises:
        RefusedError: names the parameter.
    """
    _check("max_tokens", params.max_tokens >= 0, "at least 0")
    _check("min_tokens", 0 <= params.min_tokens <= params.max_tokens, "from 0 to max_tokens")
    _check("temperature", params.temperature >= 0 and math.isfinite(params.temperature), "at least 0")
    _check("top_k", params.top_k >= 0, "at least 0 (0: all tokens)")
    _check("top_p", 0 < params.top_p <= 1, "above 0 and at most 1")
    _check("min_p", 0 <= params.min_p <= 1, "from 0 to 1")
    for name in ("presence_penalty", "frequency_penalty"):
        _check(name, abs(getattr(params, name)) <= _MOST_PENALTY, "from -2 to 2")
    _check("repetition_penalty", 0 < params.repetition_penalty < math.inf, "above 0")
    for name in ("logprobs", "prompt_logprobs"):
        value = getattr(params, name)
        _check(name, value is None or 0 <= value <= vocab_size, f"from 0 to {vocab_size}")
    _check_tokens("logit_bias", params.logit_bias or (), vocab_size)
    _check("logit_bias", all(map(math.isfinite, (params.logit_bias or {}).values())), "made of finite numbers")
    _check_tokens("stop_token_ids", params.stop_token_ids, vocab_size)


def _check(name: str, is_right: bool, wanted: str) -> None:
    if not is_right:
        raise RefusedError(f"{name} must be {wanted}", param=name)


def _check_tokens(name: str, tokens: Collection[int], vocab_size: int) -> None:
    unknown = next((token for token in tokens if not 0 <= token < vocab_size), None)
    if unknown is not None:
        raise RefusedError(
            f"{name} names token {unknown}, and this model's tokens are 0 to {vocab_size - 1}", param=name
        )


def draw(seed: int, place: int) -> float:
    """Luck for one token: even in [0, 1), a function of the request's seed and the token's place in the answer."""
    digest = hashlib.blake2b(b"%d %d" % (seed, place), digest_size=_DRAW_BYTES).digest()
    return int.from_bytes(digest, "big") / (1 << (8 * _DRAW_BYTES))


class Row:
    """What choosing needs to know of one answer; made once, so that nothing is counted anew at every token.

    Args:
        sequence: the answer; its parameters have passed `check_sampling`.
    """

    __slots__ = ("bias", "penalties", "sequence")

    def __init__(self, sequence: Answering) -> None:
        import torch

        params = sequence.request.sampling
        self.sequence = sequence
        self.penalties = Penalties(params, sequence.request.prompt_ids) if has_penalties(params) else None
        self.bias: tuple[torch.Tensor, torch.Tensor] | None = None
        """Tokens, and what is added to their logits."""
        if params.logit_bias:
            self.bias = torch.tensor(list(params.logit_bias)), torch.tensor(list(params.logit_bias.values()))

    @property
    def params(self) -> SamplingParams:
        return self.sequence.request.sampling

    @property
    def is_greedy(self) -> bool:
        return self.params.temperature < _COLDEST

    @property
    def must_go_on(self) -> bool:
        """Whether the model may not end the answer yet."""
        return len(self.sequence.output_ids) < self.params.min_tokens

    @property
    def changes_logits(self) -> bool:
        return bool(self.penalties or self.bias or self.sequence.constraint or self.must_go_on)


class Sampler:
    """Chooses tokens for a model.

    Args:
        vocab_size: V.
        stop_token_ids: the model's own ends, which `min_tokens` forbids.
    """

    def __init__(self, vocab_size: int, *, stop_token_ids: Collection[int] = ()) -> None:
        self._vocab_size = vocab_size
        self._stop_token_ids = tuple(stop_token_ids)
        self._kept: dict[str, torch.Tensor] = {}

    def choose(self, logits_RV: torch.Tensor, rows: Sequence[Row]) -> list[Sampled | RefusedError]:
        """The next token of each row, or why there is none.

        Args:
            logits_RV: float32, left as they are.
            rows: the answer of each row.
        """
        import torch

        if not rows:
            return []
        with torch.inference_mode():
            faults: dict[int, RefusedError] = {}
            changed_RV = self._change(logits_RV, rows, faults)
            best_R, tokens_R = changed_RV.max(-1)
            tokens = tokens_R.tolist()
            for row, best in enumerate(best_R.tolist()):
                if not math.isfinite(best):
                    faults.setdefault(row, _no_number(best, rows[row]))
            drawn = [place for place, row in enumerate(rows) if not row.is_greedy and place not in faults]
            if drawn:
                wanted_RV = changed_RV if len(drawn) == len(rows) else changed_RV[drawn]
                weights_RV = self._weights(wanted_RV, best_R[drawn], [rows[place] for place in drawn])
                for place, token in zip(drawn, _draw(weights_RV, [rows[place] for place in drawn]), strict=True):
                    tokens[place] = token
            return _report(logits_RV, rows, tokens, faults)

    def _change(self, logits_RV: torch.Tensor, rows: Sequence[Row], faults: dict[int, RefusedError]) -> torch.Tensor:
        """Penalties, bias, ends that are forbidden and constraints; a copy where any row has one."""
        changed = [place for place, row in enumerate(rows) if row.changes_logits]
        if not changed:
            return logits_RV
        logits_RV = self._room("changed", logits_RV).copy_(logits_RV)
        for place in changed:
            row = rows[place]
            if row.penalties:
                row.penalties.apply(logits_RV[place], row.sequence.output_ids)
            if row.bias:
                tokens_N, values_N = row.bias
                logits_RV[place].index_add_(0, tokens_N.to(logits_RV.device), values_N.to(logits_RV.device))
            if row.must_go_on and row.sequence.constraint is None:
                logits_RV[place, self._ends(row)] = -math.inf
        self._constrain(logits_RV, rows, [place for place in changed if rows[place].sequence.constraint], faults)
        return logits_RV

    def _constrain(
        self, logits_RV: torch.Tensor, rows: Sequence[Row], places: list[int], faults: dict[int, RefusedError]
    ) -> None:
        """Forbid what constraints forbid; and ends that come too early, unless nothing else may come."""
        import torch

        if not places:
            return
        masks_CW = torch.zeros((len(places), -(-self._vocab_size // 32)), dtype=torch.int32)
        for number, place in enumerate(places):
            constraint = rows[place].sequence.constraint
            assert constraint is not None
            try:
                constraint.fill_mask(masks_CW[number])
            except RefusedError as error:
                faults[place] = error
            if rows[place].must_go_on:
                _forbid(masks_CW[number], self._ends(rows[place]))
        added_CV = unpack_masks(masks_CW)[:, : self._vocab_size].to(logits_RV.device)
        if len(places) == len(rows):
            logits_RV.add_(added_CV)
        else:
            for number, place in enumerate(places):
                logits_RV[place].add_(added_CV[number])

    def _weights(self, logits_RV: torch.Tensor, best_R: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
        """Probabilities at the temperature of each row."""
        import torch

        temperatures_R = torch.tensor([row.params.temperature for row in rows], device=logits_RV.device)
        # The best logit becomes 0 first, so that no temperature makes one overflow.
        scaled_RV = torch.sub(logits_RV, best_R[:, None], out=self._room("scaled", logits_RV))
        scaled_RV.div_(temperatures_R[:, None])
        return torch.softmax(scaled_RV, -1, out=self._room("weights", logits_RV))

    def _room(self, use: str, like_RV: torch.Tensor) -> torch.Tensor:
        """Memory of the same shape, kept between steps: getting it anew takes longer than what is done with it."""
        kept = self._kept.get(use)
        if kept is None or kept.shape[0] < like_RV.shape[0] or kept.device != like_RV.device:
            kept = self._kept[use] = like_RV.new_empty(like_RV.shape)
        return kept[: like_RV.shape[0]]

    def _ends(self, row: Row) -> list[int]:
        return [*row.params.stop_token_ids, *(() if row.params.ignore_eos else self._stop_token_ids)]


def unpack_masks(masks_CW: torch.Tensor) -> torch.Tensor:
    """(C, 32 W) float32: 0 where a bit is set, else minus infinity.

    A look into a table for each byte is several times quicker than `masked_fill_` with bits of their own.

    Args:
        masks_CW: int32 on the CPU, bit i % 32 of number i // 32 for token i.
    """
    import torch

    bytes_M = masks_CW.view(torch.uint8).reshape(-1).long()
    return _byte_table().index_select(0, bytes_M).view(masks_CW.shape[0], -1)


@functools.cache
def _byte_table() -> torch.Tensor:
    """(256, 8): what each bit of a byte adds to a logit, lowest bit first."""
    import torch

    bits = (torch.arange(256)[:, None] >> torch.arange(8)) & 1
    return torch.zeros(256, 8).masked_fill_(bits == 0, -math.inf)


def _forbid(mask_W: torch.Tensor, tokens: Collection[int]) -> None:
    """Clear the bits of some tokens, unless no other is set."""
    import torch

    less_W = mask_W.clone()
    for token in tokens:
        less_W[token // 32] &= ~torch.tensor(1 << (token % 32)).int()
    if bool(less_W.any()):
        mask_W.copy_(less_W)


def _no_number(best: float, row: Row) -> RefusedError:
    if best == -math.inf and row.changes_logits:
        return RefusedError("no token is allowed at this place of the answer", fault="failed")
    return RefusedError("the model's output is no number", fault="failed")


def _report(
    logits_RV: torch.Tensor, rows: Sequence[Row], tokens: Sequence[int], faults: dict[int, RefusedError]
) -> list[Sampled | RefusedError]:
    result: list[Sampled | RefusedError] = [
        faults[place] if place in faults else Sampled(token_id=token) for place, token in enumerate(tokens)
    ]
    told = [place for place, row in enumerate(rows) if row.params.logprobs is not None and place not in faults]
    if told:
        wanted_RV = logits_RV if len(told) == len(rows) else logits_RV[told]
        tops = [rows[place].params.logprobs or 0 for place in told]
        for place, sampled in zip(told, token_logprobs(wanted_RV, [tokens[p] for p in told], tops), strict=True):
            result[place] = sampled
    return result


# --- drawing ----------------------------------------------------------------------------------------------------------


def _draw(weights_RV: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    """A token of each row; rows that leave tokens out are looked at apart from those that draw among all."""
    import torch

    draws_R = torch.tensor(
        [draw(row.params.seed, len(row.sequence.output_ids)) for row in rows],
        dtype=torch.float64,
        device=weights_RV.device,
    )
    choosy = [place for place, row in enumerate(rows) if _is_choosy(row.params)]
    if len(choosy) == len(rows):
        return _draw_likely(weights_RV, draws_R, [row.params for row in rows])
    tokens = _draw_any(weights_RV, draws_R)
    if choosy:
        params = [rows[place].params for place in choosy]
        for place, token in zip(choosy, _draw_likely(weights_RV[choosy], draws_R[choosy], params), strict=True):
            tokens[place] = token
    return tokens


def _is_choosy(params: SamplingParams) -> bool:
    return params.top_k > 0 or params.top_p < 1 or params.min_p > 0


def _draw_any(weights_RV: torch.Tensor, draws_R: torch.Tensor) -> list[int]:
    """A token of each row by its weight: first the block that the draw falls into, then the token."""
    from torch.nn.functional import pad

    num_rows, vocab_size = weights_RV.shape
    weights_RNB = pad(weights_RV, (0, -vocab_size % _BLOCK)).view(num_rows, -1, _BLOCK)
    sums_RN = weights_RNB.sum(-1).double()
    ends_RN = sums_RN.cumsum(-1)
    targets_R1 = draws_R[:, None] * ends_RN[:, -1:]
    blocks_R1 = _first_behind(ends_RN, targets_R1)
    inside_RB = weights_RNB.gather(1, blocks_R1[:, :, None].expand(-1, -1, _BLOCK))[:, 0].double()
    ends_RB = inside_RB.cumsum(-1)
    begins_R1 = (ends_RN - sums_RN).gather(1, blocks_R1)
    places_R1 = _first_behind(ends_RB, targets_R1 - begins_R1)
    tokens: list[int] = (blocks_R1 * _BLOCK + places_R1)[:, 0].tolist()
    return tokens


def _first_behind(ends_RN: torch.Tensor, targets_R1: torch.Tensor) -> torch.Tensor:
    """The first place whose end lies behind the target, (R, 1); by rounding at most the last one with a weight."""
    import torch

    places_R1 = torch.searchsorted(ends_RN, targets_R1, right=True)
    last_R1 = torch.searchsorted(ends_RN, ends_RN[:, -1:].contiguous())
    return torch.minimum(places_R1, last_R1)


def _draw_likely(weights_RV: torch.Tensor, draws_R: torch.Tensor, params: Sequence[SamplingParams]) -> list[int]:
    """A token of each row among those that top-k, top-p and min-p leave."""
    tokens = [0] * len(params)
    places = list(range(len(params)))
    vocab_size = weights_RV.shape[-1]
    for width in (_LIKELY, _LESS_LIKELY, vocab_size):
        rows_RV = weights_RV if len(places) == len(params) else weights_RV[places]
        found, enough = _draw_sorted(rows_RV, draws_R[places], [params[p] for p in places], min(width, vocab_size))
        for place, token in zip(places, found, strict=True):
            tokens[place] = token
        places = [place for place, is_enough in zip(places, enough, strict=True) if not is_enough]
        if not places:
            break
    return tokens


def _draw_sorted(
    weights_RV: torch.Tensor,
    draws_R: torch.Tensor,
    params: Sequence[SamplingParams],
    width: int,
) -> tuple[list[int], list[bool]]:
    """A token of each row among the `width` likeliest, and whether all that may be drawn are among them."""
    import torch

    device = weights_RV.device
    vocab_size = weights_RV.shape[-1]
    limits_R1 = torch.tensor([min(p.top_k or vocab_size, vocab_size) for p in params], device=device)[:, None]
    top_ps_R1 = torch.tensor([p.top_p for p in params], dtype=torch.float64, device=device)[:, None]
    min_ps_R1 = torch.tensor([p.min_p for p in params], dtype=torch.float64, device=device)[:, None]
    sorted_RK, order_RK = weights_RV.topk(width)
    sorted_RK = sorted_RK.double().masked_fill_(torch.arange(width, device=device) >= limits_R1, 0)
    ends_RK = sorted_RK.cumsum(-1)
    has_all_R1 = limits_R1 <= width
    # top-p is of what top-k has left.
    room_R1 = top_ps_R1 * torch.where(has_all_R1, ends_RK[:, -1:], weights_RV.sum(-1, keepdim=True).double())
    floor_R1 = min_ps_R1 * sorted_RK[:, :1]
    kept_RK = sorted_RK.masked_fill((ends_RK - sorted_RK >= room_R1) | (sorted_RK < floor_R1), 0)
    enough_R1 = has_all_R1 | (ends_RK[:, -1:] >= room_R1) | (sorted_RK[:, -1:] < floor_R1)
    kept_ends_RK = kept_RK.cumsum(-1)
    places_R1 = _first_behind(kept_ends_RK, draws_R[:, None] * kept_ends_RK[:, -1:])
    return order_RK.gather(1, places_R1)[:, 0].tolist(), enough_R1[:, 0].tolist()
