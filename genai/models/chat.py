"""A conversation with a model: what `genai models chat` holds between two lines of the user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from genai.config.finetune import HFCausalLMConfig, TokenizerConfig
from genai.models.references import resolve_adapter, resolve_model
from genai.report.terminal import strip_controls

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """How answers are made; see `genai.models.generate.stream_chat`."""

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 17


@dataclass
class Chat:
    """A model, and what was said so far."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    system: str | None = None
    """Stands before everything, if given."""
    options: ChatOptions = field(default_factory=ChatOptions)
    turns: list[dict[str, str]] = field(default_factory=list)

    def say(self, text: str) -> Iterator[str]:
        """Put `text` to the model and give its answer in pieces that are safe for a terminal.

        The turn is kept when the answer is complete, or when the caller stops reading; not when it fails.
        """
        from genai.models.generate import stream_chat

        head = [{"role": "system", "content": self.system}] if self.system else []
        question = {"role": "user", "content": text}
        pieces: list[str] = []
        stream = stream_chat(
            self.model,
            self.tokenizer,
            [*head, *self.turns, question],
            max_new_tokens=self.options.max_new_tokens,
            temperature=self.options.temperature,
            top_p=self.options.top_p,
            seed=self.options.seed,
        )
        try:
            for piece in stream:
                pieces.append(piece)
                yield strip_controls(piece)
        finally:
            if pieces:
                self.turns += [question, {"role": "assistant", "content": "".join(pieces)}]

    def reset(self) -> None:
        """Forget everything that was said."""
        self.turns.clear()


def open_chat(
    reference: str,
    *,
    adapter: str | None = None,
    system: str | None = None,
    options: ChatOptions | None = None,
    device: str = "auto",
    runs_dir: str | Path = "runs",
    revision: str | None = None,
) -> Chat:
    """Load a model to talk to: float32 on a CPU, bfloat16 on a GPU.

    Args:
        reference: a model reference.
        adapter: an adapter to merge into it.
        system: the system message.
        options: how answers are made.
        device: cpu, cuda, or auto for a GPU when there is one.
        runs_dir: where run directories lie.
        revision: of a model on the hub.
    """
    adapter_path = resolve_adapter(adapter, runs_dir=runs_dir) if adapter else None
    resolved = resolve_model(reference, runs_dir=runs_dir, revision=revision)
    config = HFCausalLMConfig(pretrained_model_name_or_path=reference)
    import torch

    from genai.models.loading import load_model, load_tokenizer

    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    model = load_model(config, resolved, dtype=torch.float32)
    tokenizer = load_tokenizer(config, TokenizerConfig(), resolved)
    if adapter_path is not None:
        from genai.models.adapters import merge_adapter

        model = merge_adapter(model, adapter_path, base=resolved)
    if on_gpu:
        model = model.to("cuda", torch.bfloat16)  # type: ignore[arg-type]  # transformers narrows it to a string
    return Chat(model=model, tokenizer=tokenizer, system=system, options=options or ChatOptions())
