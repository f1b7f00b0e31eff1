"""Free dictionaries of a job file against the function that they are handed to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from genai.registry import suggest


def check_kwargs(
    callee: Callable[..., Any],
    kwargs: Mapping[str, Any],
    *,
    also_known: Collection[str] | None = None,
    set_by_genai: Collection[str] = (),
) -> list[tuple[str, str, str | None]]:
    """Find keyword arguments that the callee does not take.

    Args:
        callee: function, method or class that will be called with `**kwargs`.
        kwargs: what the job file says.
        also_known: names that a callee with `**kwargs` of its own is known to take; None lets it take every name.
        set_by_genai: arguments that genai passes itself, from other keys of the job file.

    Returns:
        for each wrong one its name, what is wrong, and the nearest name that would be right.
    """
    parameters = inspect.signature(callee).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters) and also_known is None:
        names: set[str] | None = None
    else:
        takes_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names = {parameter.name for parameter in parameters if parameter.kind in takes_name} | set(also_known or ())
        names -= {"self", "cls", *set_by_genai}
    called = getattr(callee, "__qualname__", type(callee).__name__)
    problems: list[tuple[str, str, str | None]] = []
    for name in kwargs:
        if name in set_by_genai:
            problems.append((name, f"'{name}' is set by another key of the job file", "remove it here"))
        elif names is not None and name not in names:
            near = suggest(name, names)
            problems.append((name, f"{called} takes no argument '{name}'", f"did you mean '{near}'?" if near else None))
    return problems
