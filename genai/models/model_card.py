"""The README.md of an exported model: what it is, what it was made from, how well it does, how to run it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a model card says. Everything but the name may be left out and is then left out of the card."""

    name: str
    """Title, usually the run's name."""
    base_model: str | None = None
    """Reference of the model it was trained from; ORG/NAME when it is known on the hub."""
    licence: str | None = None
    """The base model's licence, which the weights inherit."""
    method: str | None = None
    """How it was trained, e.g. "LoRA, r 16, 2 epochs"."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Name of each input to its fingerprint."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Name to value, e.g. {"eval/loss": 2.86}."""
    notes: str | None = None
    """A paragraph of the author's own."""

    def render(self) -> str:
        """The card as Markdown with the front matter the hub reads."""
        sections = [self._front_matter(), f"# {_line(self.name)}", self._summary()]
        if self.data:
            sections.append(_table("Data", ("input", "fingerprint"), self.data))
        if self.metrics:
            sections.append(_table("Results", ("metric", "value"), {k: f"{v:.6g}" for k, v in self.metrics.items()}))
        return "\n\n".join([*sections, _HOW_TO_USE]) + "\n"

    def _front_matter(self) -> str:
        values = {
            "license": self.licence.lower() if self.licence else None,
            "base_model": self.base_model,
            "library_name": "transformers",
            "pipeline_tag": "text-generation",
            "tags": ["genai"],
        }
        # JSON is YAML: quoting the values this way leaves nothing to escape.
        lines = [f"{key}: {json.dumps(value)}" for key, value in values.items() if value is not None]
        return "\n".join(["---", *lines, "---"])

    def _summary(self) -> str:
        facts = {"Base model": self.base_model, "Training": self.method, "Licence": self.licence}
        lines = [f"- {name}: {_line(value)}" for name, value in facts.items() if value]
        return "\n".join(lines) + (f"\n\n{self.notes.strip()}" if self.notes else "")


_HOW_TO_USE = """\
## How to use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
messages = [{"role": "user", "content": "Hello"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**inputs, max_new_tokens=128)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```"""


def _table(title: str, header: tuple[str, str], rows: Mapping[str, str]) -> str:
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join([f"## {title}", "", f"| {header[0]} | {header[1]} |", "|---|---|", *lines])


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _line(text: str) -> str:
    """`text` on one line, with nothing in it that a Markdown reader takes for HTML."""
    return " ".join(text.split()).replace("<", "&lt;")
