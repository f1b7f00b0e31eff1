"""`genai eval metrics`: what can be measured."""

from __future__ import annotations

from typing import Any

from genai.evaluation.metrics.registry import describe


def listed() -> list[dict[str, Any]]:
    """Every metric, built in or of a plugin, sorted by name."""
    return [{**each._asdict(), "kinds": list(each.kinds)} for each in describe()]
