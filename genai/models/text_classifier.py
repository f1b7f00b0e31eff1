"""A model that sorts texts into classes: toxic or not, a refusal or not, a mood."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genai.errors import DataError, MissingExtraError
from genai.models.precision import device
from genai.models.quiet import quiet_transformers

_BATCH = 32
_FIX = "take a model for text classification, whose config.json names its classes (id2label)"


def labels_of(folder: Path) -> tuple[str, ...]:
    """The classes of a text-classification model, in the order of its outputs; its weights are not read.

    Raises:
        DataError: the folder holds no such model.
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
        named = {int(number): str(label) for number, label in config["id2label"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError("it does not say which classes it knows", where=str(folder), fix=_FIX) from error
    architectures = config.get("architectures") or []
    if not any(str(each).endswith("ForSequenceClassification") for each in architectures) or not named:
        raise DataError(
            f"it is no classifier of texts but {', '.join(map(str, architectures))}", where=str(folder), fix=_FIX
        )
    return tuple(named[number] for number in sorted(named))


class TextClassifier:
    """A model of transformers in this process; loaded when the first text comes. One thread at a time asks it.

    Args:
        folder: of the model; safetensors only, no code of its own.

    Raises:
        DataError: the folder holds no such model.
        MissingExtraError: torch or transformers is not installed.
    """

    def __init__(self, folder: Path) -> None:
        for package in ("torch", "transformers"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(package, extra="serve", needed_for="running a classifier of texts")
        self.labels = labels_of(folder)
        if len(self.labels) == 1:
            raise DataError("it knows one class only", where=str(folder), fix="take one with two classes or more")
        self._folder = folder
        self._loaded: tuple[Any, Any] | None = None

    def probabilities(self, texts: Sequence[str]) -> list[Mapping[str, float]]:
        """Of each text: class -> probability. They add up to one, unless the model's classes do not exclude each other
        (`problem_type: multi_label_classification`). A text that is longer than the model reads is cut.

        Raises:
            DataError: the weights are missing or damaged.
        """
        import torch

        if self._loaded is None:
            self._loaded = self._load()
        tokenizer, model = self._loaded
        found: list[Mapping[str, float]] = []
        for start in range(0, len(texts), _BATCH):
            batch = tokenizer(list(texts[start : start + _BATCH]), padding=True, truncation=True, return_tensors="pt")
            with torch.inference_mode():
                logits_BC = model(**batch.to(model.device)).logits.float()
            several = model.config.problem_type == "multi_label_classification"
            shares_BC = logits_BC.sigmoid() if several else logits_BC.softmax(-1)
            found += [dict(zip(self.labels, row, strict=True)) for row in shares_BC.tolist()]
        return found

    def _load(self) -> tuple[Any, Any]:
        from safetensors import SafetensorError
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        shared: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            with quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(self._folder, **shared)
                model, report = AutoModelForSequenceClassification.from_pretrained(
                    self._folder, use_safetensors=True, output_loading_info=True, **shared
                )
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"the classifier cannot be loaded: {reason}", where=str(self._folder)) from error
        values = report if isinstance(report, Mapping) else vars(report)
        if values["missing_keys"]:
            first = sorted(values["missing_keys"])[0]
            raise DataError(f"weights are missing, e.g. {first}", where=str(self._folder), fix="fetch them again")
        return tokenizer, model.to(device()).eval()
