"""docs/llm-foundry.md: what becomes of every key of llm-foundry's, read off the schemas and the answers."""

from __future__ import annotations

from collections.abc import Iterator

from genai.config.annotations import Variants, all_keys, allowed_words, hints, shapes
from genai.config.dialect import dump
from genai.config.foundry import UNKNOWN_NAMES, answer_for
from genai.config.foundry_answers import Answer
from genai.config.foundry_keys import KEYS, NAMES
from genai.config.schemas import SCHEMAS
from genai.config.training import FSDP_WITHOUT_EFFECT
from genai.config.tree import dotted

JOBS = ("pretrain", "finetune")
_NOT_HERE = "not a key of this job"
_HEAD = """\
# llm-foundry's training files

Written by `make docs` from `genai/config/foundry_keys.py` (the keys of llm-foundry 0.22.0), `genai/config/foundry.py`
(what becomes of them) and the job schemas.

A YAML of llm-foundry's `scripts/train/yamls/pretrain` or `finetune` is given to `genai pretrain` or `genai finetune` as
it is:

```bash
genai config validate mpt-125m.yaml                        # every key that is answered, with its line
genai config from-llmfoundry mpt-125m.yaml -o mine.yaml    # the same as a file of ours, the answers as comments
```

**yes**: the same name and the same meaning. **translated**: it is read as what the note says. **no effect**: it is
passed over with a warning. **refused**: the job does not start, and says why. Keys below a section are answered with
it. What is said of `train_loader` holds for `eval_loader` as well.

Two defaults of `mpt_causal_lm` differ from llm-foundry's and are said as warnings: transformers' MPT has ALiBi where
llm-foundry's has learned positions, and no biases. A YAML with `attn_config: {alibi: true}` and `no_bias: true` means
the same model in both.
"""


def render_foundry() -> str:
    """The whole document."""
    return "\n".join([_HEAD, *(line for title, keys in KEYS.items() for line in _block(title, keys)), *_names()]) + "\n"


def status_of(key: str, job: str, *, model: str | None = None) -> tuple[str, str]:
    """How a key is answered by a job (`yes`, `translated`, `no effect`, `refused`, or that it is none), and the note.

    Args:
        key: dotted.
        job: `finetune` or `pretrain`.
        model: the model.name that it is written with.
    """
    answer = _answer(key, job, model)
    ours = key in _keys(job, model)
    if ours and key.removeprefix("fsdp_config.") in FSDP_WITHOUT_EFFECT:
        return "no effect", "FSDP2 decides it for itself"
    if answer is None:
        return ("yes", "") if ours else (_NOT_HERE, "")
    return ("yes" if ours and answer.does == "translated" else answer.does), _note(answer)


def _note(answer: Answer) -> str:
    note = f"{answer.why}; {answer.fix}" if answer.fix else answer.why
    taken = [dump([value], flow=True).strip()[1:-1] for value in answer.harmless if value is not None]
    return f"{note} (`{'`, `'.join(taken)}` is taken)" if taken else note


def _answer(key: str, job: str, model: str | None) -> Answer | None:
    """The answer of the key itself or of a section above it."""
    parts = key.split(".")
    for end in range(1, len(parts) + 1):
        if found := answer_for(".".join(parts[:end]), job, model=model):
            return found
    return None


def _keys(job: str, model: str | None) -> set[str]:
    """The keys of a job; below `model` those of that kind of model only, where one is named."""
    found = {dotted(path) for path, _, _ in all_keys(SCHEMAS[job])}
    if model is None:
        return found
    (kinds,) = (shape.type for shape in shapes(hints(SCHEMAS[job])["model"]))
    kind = kinds.get(model) if isinstance(kinds, Variants) else None
    own = {dotted(path) for path, _, _ in all_keys(kind, ("model",))} if kind else set()
    return {key for key in found if not key.startswith("model.")} | own


def _block(title: str, keys: tuple[str, ...]) -> Iterator[str]:
    model = "mpt_causal_lm" if title.endswith("mpt_causal_lm") else None
    yield from ("", f"## {title}", "", "| key | pretrain | finetune | note |", "|---|---|---|---|")
    for key in keys:
        found = [status_of(key, job, model=model) for job in JOBS]
        notes = {job: note for job, (_, note) in zip(JOBS, found, strict=True) if note}
        same = len(set(notes.values())) < 2
        texts = list(notes.values())[:1] if same else [f"{job}: {note}" for job, note in notes.items()]
        words = [_short(status) for status, _ in found]
        yield f"| `{key}` | {words[0]} | {words[1]} | {_cell('. '.join(texts))} |"


def _short(status: str) -> str:
    return "" if status == _NOT_HERE else status


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _names() -> Iterator[str]:
    yield from ("", "## Names", "", "| key | word | pretrain | finetune | note |", "|---|---|---|---|---|")
    for key, words in NAMES.items():
        for word in words:
            taken = ["yes" if word in _words(key, job) else "refused" for job in JOBS]
            note = next((why for why, all_words in UNKNOWN_NAMES.items() if word in all_words), "")
            yield f"| `{key}` | `{word}` | {taken[0]} | {taken[1]} | {note} |"


def _words(key: str, job: str) -> list[str]:
    """The words that a job takes for a key."""
    return [
        word
        for path, config, name in all_keys(SCHEMAS[job])
        if dotted(path) == key
        for word in allowed_words(hints(config)[name])
    ]
