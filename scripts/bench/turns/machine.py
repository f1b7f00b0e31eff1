"""What a report says about where it was made."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from typing import Any


def environment(packages: Sequence[str]) -> dict[str, Any]:
    """Versions of the packages (None where one is not installed), of Python, and the processor."""
    from genai.tracking.environment import collect_environment

    versions = {name: version_of(name) for name in packages}
    return {"versions": versions, "python": platform.python_version(), "cpu": collect_environment().get("cpu")}


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
