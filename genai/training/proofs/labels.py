"""Proof that the tokens that are trained are the ones that are meant.

All rows are looked at, in pieces of the memory-mapped arrays; a few are rendered as text for the eye.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray

from genai.config.finetune import LabelsProofConfig
from genai.errors import Problem
from genai.training.proofs.rendering import render_examples
from genai.training.proofs.result import ProofResult, refuted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from genai.data.tokenized import TokenizedRows

MAX_DOUBLED_NEWLINES = 0.01
"""Share of answers that may begin with a second newline: a few are the data's own, many are the template's fault."""

_CHUNK_TOKENS = 1 << 24
_ROWS_NAMED = 3


def prove_labels(
    rows: TokenizedRows,
    tokenizer: PreTrainedTokenizerBase,
    cfg: LabelsProofConfig,
    *,
    stop_token_ids: Collection[int] = (),
    name_row: Callable[[int], str] = str,
) -> ProofResult:
    """Look for the faults that leave a loss curve healthy and a model useless.

    Args:
        rows: the tokenised training rows.
        tokenizer: the one they were made with.
        cfg: how many examples to render, how many answers may be cut off.
        stop_token_ids: tokens that end generation, from the generation config; the tokenizer's own is always one.
        name_row: index of an example -> how to name it to the user, such as `path:line`.

    Raises:
        GateError: a row trains nothing; no token that ends generation is trained; the begin-of-sequence token or the
            newline before an answer is doubled; too many answers are cut off.
    """
    started = time.perf_counter()
    stops = sorted({*stop_token_ids, *([] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)])})
    rows_with_stop = np.zeros(len(rows), dtype=np.bool_)
    rows_with_stop[_rows_of(rows, _trained_among(rows, stops))] = True
    doubled_newlines, num_answers = _doubled_newlines(rows, tokenizer)
    cut_share = float(rows.answer_cut.mean())
    problems = [
        *_nothing_trained(rows, name_row),
        *_never_stops(rows, tokenizer, rows_with_stop, stops),
        *_doubled_bos(rows, tokenizer, name_row),
        *_too_many_newlines(doubled_newlines, num_answers, name_row),
        *_too_many_cut(rows, cfg.max_cut_answers, name_row),
    ]
    if problems:
        raise refuted(problems)
    num_trained = int(rows.trained_counts.sum())
    share = num_trained / rows.num_tokens
    details = [
        f"{num_trained:,} of {rows.num_tokens:,} tokens are trained ({share:.1%}), "
        f"in {num_answers:,} answers of {len(rows):,} rows"
    ]
    silent = np.flatnonzero(~rows_with_stop & ~rows.answer_cut)
    if len(silent):
        details.append(f"{len(silent)} rows train no token that ends generation: {_name(silent, name_row)}")
    if len(doubled_newlines):
        details.append(f"answers that begin with a second newline: {_name(doubled_newlines, name_row)}")
    return ProofResult(
        name="labels",
        seconds=time.perf_counter() - started,
        details=tuple(details),
        numbers={
            "rows": len(rows),
            "tokens": rows.num_tokens,
            "trained_tokens": num_trained,
            "trained_share": share,
            "cut_answers_share": cut_share,
            "rows_that_train_a_stop_token_share": float(rows_with_stop.mean()),
        },
        examples=tuple(render_examples(rows, tokenizer, cfg.num_examples, name_row=name_row)),
    )


# --- the five faults --------------------------------------------------------------------------------------------------


def _nothing_trained(rows: TokenizedRows, name_row: Callable[[int], str]) -> Iterator[Problem]:
    empty = np.flatnonzero(rows.trained_counts == 0)
    if len(empty):
        yield Problem(
            message=f"{len(empty)} of {len(rows)} rows train nothing: {_name(empty, name_row)}",
            where="proofs.labels",
            fix="raise max_seq_len if their prompts fill it, set truncation: drop, or remove them",
        )


def _never_stops(
    rows: TokenizedRows, tokenizer: PreTrainedTokenizerBase, rows_with_stop: NDArray[np.bool_], stops: Sequence[int]
) -> Iterator[Problem]:
    whole = np.flatnonzero(~rows.answer_cut & (rows.trained_counts > 0))
    if not len(whole) or rows_with_stop.any():
        return
    known = ", ".join(repr(text) for text in tokenizer.convert_ids_to_tokens(list(stops))) or "none is set"
    token_ids, trained = rows.example(int(whole[0]))
    last = int(token_ids[trained][-1])
    yield Problem(
        message=f"no token that ends generation ({known}) is ever trained, so the tuned model would not stop; "
        f"answers end in {tokenizer.convert_ids_to_tokens(last)!r}",
        where="proofs.labels",
        fix="set tokenizer.kwargs.eos_token to the token that ends a turn in the chat template, "
        "or tokenizer.chat_template to one that ends turns with the tokenizer's own",
    )


def _doubled_bos(
    rows: TokenizedRows, tokenizer: PreTrainedTokenizerBase, name_row: Callable[[int], str]
) -> Iterator[Problem]:
    if tokenizer.bos_token_id is None:
        return
    long = np.flatnonzero(rows.lengths >= 2)
    first = rows.offsets[:-1][long]
    bos = int(tokenizer.bos_token_id)
    doubled = long[(rows.tokens[first] == bos) & (rows.tokens[first + 1] == bos)]
    if len(doubled):
        yield Problem(
            message=f"{len(doubled)} of {len(rows)} rows begin with {tokenizer.bos_token!r} twice: "
            f"{_name(doubled, name_row)}",
            where="proofs.labels",
            fix="remove it from the rows or from the chat template: the tokenizer adds it as well",
        )


def _too_many_newlines(
    doubled: NDArray[np.int64], num_answers: int, name_row: Callable[[int], str]
) -> Iterator[Problem]:
    if len(doubled) > MAX_DOUBLED_NEWLINES * num_answers:
        yield Problem(
            message=f"{len(doubled)} of {num_answers} answers begin with a newline after the one that the chat "
            f"template puts there: {_name(np.unique(doubled), name_row)}",
            where="proofs.labels",
            fix="strip the answers, or take the newline out of the template",
        )


def _too_many_cut(rows: TokenizedRows, limit: float, name_row: Callable[[int], str]) -> Iterator[Problem]:
    cut = np.flatnonzero(rows.answer_cut)
    if len(cut) > limit * len(rows):
        yield Problem(
            message=f"{len(cut) / len(rows):.1%} of the answers are cut off before their end "
            f"(proofs.labels.max_cut_answers is {limit:.1%}): {_name(cut, name_row)}",
            where="proofs.labels",
            fix="raise max_seq_len, or set train_loader.dataset.truncation: drop",
        )


# --- looking through the arrays ---------------------------------------------------------------------------------------


def _trained_among(rows: TokenizedRows, token_ids: Sequence[int]) -> NDArray[np.int64]:
    """Places in the flat arrays where one of `token_ids` is trained."""
    wanted = np.asarray(token_ids, dtype=rows.tokens.dtype)
    found = [
        start + np.flatnonzero(rows.trained[start:stop] & np.isin(rows.tokens[start:stop], wanted))
        for start, stop in _chunks(rows.num_tokens)
    ]
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])


def _doubled_newlines(rows: TokenizedRows, tokenizer: PreTrainedTokenizerBase) -> tuple[NDArray[np.int64], int]:
    """Examples with an answer whose newline is doubled (once for each such answer), and the number of answers."""
    begins = _answer_begins(rows)
    # Plain text has no token of a prompt before its first trained one, only the first token, which cannot be trained.
    first = begins[begins - rows.offsets[_rows_of(rows, begins)] > 1]
    before = _per_token(tokenizer, rows.tokens[first - 1], lambda text: len(text) - len(text.rstrip("\n")))
    leading = _per_token(tokenizer, rows.tokens[first], lambda text: len(text) - len(text.lstrip("\n")))
    meant = _newlines_of_generation_prompt(tokenizer)
    # A tokenizer may merge both newlines into one token on either side of the boundary: only their sum can be judged.
    doubled = (before > 0) & (leading > 0) if meant is None else (before + leading > meant) & (meant > 0)
    return _rows_of(rows, first[doubled]), len(begins)


def _newlines_of_generation_prompt(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """How many newlines the chat template puts before an answer; None where there is no template to ask."""
    if not tokenizer.chat_template:
        return None
    question = [{"role": "user", "content": "?"}]
    try:
        prompt = str(tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True))
    except TemplateError:
        return None  # some templates refuse a conversation without their own system message
    return len(prompt) - len(prompt.rstrip("\n"))


def _answer_begins(rows: TokenizedRows) -> NDArray[np.int64]:
    """Places where a trained token follows one that is not."""
    found = []
    for start, stop in _chunks(rows.num_tokens):
        trained = rows.trained[start:stop]
        # Token 0 is never trained, so `start` itself begins an answer only where the chunk before ended untrained.
        before = np.concatenate([[start > 0 and rows.trained[start - 1]], trained[:-1]])
        found.append(start + np.flatnonzero(trained & ~before))
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])


def _per_token(
    tokenizer: PreTrainedTokenizerBase, token_ids: NDArray[np.int32], measure: Callable[[str], int]
) -> NDArray[np.int64]:
    """`measure` of each token's text; every distinct token is decoded once."""
    distinct, inverse = np.unique(token_ids, return_inverse=True)
    values = [measure(str(tokenizer.decode([int(token)]))) for token in distinct]
    return np.array(values, dtype=np.int64)[inverse]


def _rows_of(rows: TokenizedRows, places: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.searchsorted(rows.offsets, places, side="right") - 1


def _chunks(length: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, _CHUNK_TOKENS):
        yield start, min(length, start + _CHUNK_TOKENS)


def _name(indices: NDArray[np.int64], name_row: Callable[[int], str]) -> str:
    named = ", ".join(name_row(int(index)) for index in indices[:_ROWS_NAMED])
    return f"{named}, ..." if len(indices) > _ROWS_NAMED else named
