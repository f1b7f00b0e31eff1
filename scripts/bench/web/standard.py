"""The standard library's `http`, which the benchmark of that name hides from the scripts of its folder."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import MutableMapping
from pathlib import Path
from types import ModuleType


def load_http(hiding: Path, modules: MutableMapping[str, ModuleType]) -> None:
    """Put the standard package in place of the file that hides it.

    Args:
        hiding: that file.
        modules: sys.modules
    """
    file = Path(os.__file__).parent / "http" / "__init__.py"
    spec = importlib.util.spec_from_file_location("http", file, submodule_search_locations=[str(file.parent)])
    assert spec is not None and spec.loader is not None and file != hiding
    modules["http"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
