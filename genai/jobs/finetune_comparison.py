"""What the base model could do, and what the tuned one can: losses and answers on the same held-out rows.

The base is measured before step 1, since full fine-tuning moves its weights; the numbers are kept in the run directory,
so that a resume does not measure them again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import torch

from genai.data.batches import eval_batches
from genai.data.labels import Encoder, LabelSettings
from genai.data.rows import BadRow, Message, Row
from genai.data.tokenized import TokenizedRows
from genai.jobs.finetune_parts import Parts
from genai.jobs.result import Answers, Losses
from genai.log import get_logger, progress
from genai.models.generate import answer
from genai.storage.atomic import write_json
from genai.tracking.run import RunDirectory
from genai.training.compiling import eagerly
from genai.training.evaluate import EvalLoss, evaluate
from genai.training.precision import autocast
from genai.training.random_state import random_state, restore_random_state
from genai.training.trainer import Trainer

_log = get_logger(__name__)
_FILE = "base.json"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Losses and answers; `tuned` texts are empty until the end."""

    losses: Losses
    answers: tuple[Answers, ...]


def measure_base(parts: Parts, directory: RunDirectory) -> Measured:
    """The untouched model's held-out loss, its loss with training rows in the prompt, and its answers."""
    if parts.eval_tokens is None:
        return Measured(losses=Losses(), answers=())
    path = directory.path / _FILE
    key = json.loads(json.dumps({"inputs": parts.fingerprints, "compare": asdict(parts.config.compare)}))
    if path.exists():
        saved = json.loads(path.read_bytes())
        if saved["key"] == key:
            answers = tuple(Answers(**values) for values in saved["answers"])
            return Measured(losses=Losses(**saved["losses"]), answers=answers)
    with _undisturbed(parts):
        measured = Measured(losses=_base_losses(parts), answers=_base_answers(parts))
    write_json(path, {"key": key, **asdict(measured)})
    return measured


def loss_after(trainer: Trainer) -> EvalLoss | None:
    """The trained model's held-out loss; all ranks must ask."""
    return trainer.last_eval or trainer.measure("held-out loss")


def measure_tuned(parts: Parts, base: Measured, after: EvalLoss | None) -> Measured:
    """The trained model on the same rows.

    Args:
        parts: of the job.
        base: what the base model could do.
        after: from `loss_after`.
    """
    if parts.eval_tokens is None:
        return base
    samples = _samples(parts)[: len(base.answers)]
    with _undisturbed(parts):
        texts = [_answer(parts, row) for row in samples]
    answers = tuple(replace(known, tuned=text) for known, text in zip(base.answers, texts, strict=True))
    return Measured(losses=replace(base.losses, after=after.loss if after else None), answers=answers)


@contextmanager
def _undisturbed(parts: Parts) -> Iterator[None]:
    """Measure without moving a random stream or the training mode, so that training is the same with and without."""
    state, training = random_state(), parts.model.training
    parts.model.eval()
    try:
        yield
    finally:
        parts.model.train(training)
        restore_random_state(state)


# --- losses -----------------------------------------------------------------------------------------------------------


def _base_losses(parts: Parts) -> Losses:
    assert parts.eval_tokens is not None
    before = None
    if parts.config.eval_first:
        before = _loss(parts, parts.eval_tokens, "base: held-out loss", parts.config.max_seq_len)
    shots = _shots(parts)
    with_shots = None
    if parts.config.eval_first and shots:
        tokens, longest = _with_shots(parts, shots)
        with_shots = _loss(parts, tokens, f"base with {len(shots)} examples in its prompt", longest)
    return Losses(
        before=before.loss if before else None,
        before_with_shots=with_shots.loss if with_shots else None,
        num_shots=len(shots) if with_shots else 0,
        num_rows=len(parts.eval_tokens),
        num_tokens=int(parts.eval_tokens.trained_counts.sum()),
    )


def _loss(parts: Parts, tokens: TokenizedRows, description: str, longest: int) -> EvalLoss | None:
    batch_size = parts.eval_batch_size(tokens)
    batches = eval_batches(tokens, max_seq_len=longest, batch_size=batch_size, pad_token_id=parts.pad_token_id)
    total = -(-len(tokens) // batch_size)
    return evaluate(parts.model_loss, batches, description=description, total=total)


def _shots(parts: Parts) -> list[Row]:
    """The first training conversations, to be shown in a prompt."""
    chats = [row for row in parts.rows.train.rows if row.messages]
    return chats[: parts.config.compare.num_shots]


def _with_shots(parts: Parts, shots: list[Row]) -> tuple[TokenizedRows, int]:
    """The evaluation rows with `shots` before each; only the row's own answers carry a loss."""
    assert parts.rows.evaluation is not None
    before = [message for row in shots for message in row.messages if message.role != "system"]
    context = int(getattr(parts.model.config, "max_position_embeddings", 1 << 20))
    encoder = Encoder(parts.tokenizer, LabelSettings(max_seq_len=context))
    examples = [
        encoded
        for result in encoder.encode_all([_behind(before, row) for row in parts.rows.evaluation.rows])
        if not isinstance(result, BadRow)
        for encoded in result
    ]
    tokens = TokenizedRows.from_lists(
        [example.input_ids.tolist() for example in examples], [example.trained.tolist() for example in examples]
    )
    return tokens, int(tokens.lengths.max())


def _behind(shots: list[Message], row: Row) -> Row:
    """`row` as the last turns of a conversation that begins with its own system message and `shots`."""
    silent = [replace(message, trained=False) for message in shots]
    system = [message for message in row.messages if message.role == "system"]
    rest = [message for message in row.messages if message.role != "system"]
    return replace(row, messages=(*system, *silent, *rest))


# --- answers ----------------------------------------------------------------------------------------------------------


def _samples(parts: Parts) -> list[Row]:
    """Held-out conversations to answer, spread over the rows: those that end in an answer."""
    assert parts.rows.evaluation is not None
    rows = [row for row in parts.rows.evaluation.rows if row.messages and row.messages[-1].role == "assistant"]
    wanted = min(parts.config.compare.num_samples, len(rows))
    return [rows[index * len(rows) // wanted] for index in range(wanted)]


def _base_answers(parts: Parts) -> tuple[Answers, ...]:
    samples = _samples(parts)
    found = []
    with progress("base: answers", len(samples)) as task:
        for number, row in enumerate(samples, start=1):
            text = _answer(parts, row)
            found.append(Answers(prompt=_prompt(row), expected=row.messages[-1].content, base=text, tuned=""))
            task.update(number)
    return tuple(found)


def _answer(parts: Parts, row: Row) -> str:
    messages = [{"role": message.role, "content": message.content} for message in row.messages[:-1]]
    with torch.no_grad(), autocast(parts.config.precision, parts.device), eagerly():
        return answer(parts.model, parts.tokenizer, messages, max_new_tokens=parts.config.compare.max_new_tokens)


def _prompt(row: Row) -> str:
    """What is said before the last answer, the system message left out."""
    return replace(row, messages=row.messages[:-1]).content
