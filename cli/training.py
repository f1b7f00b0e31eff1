"""What the verbs that train have in common: the job in this process, or on the ranks that torchrun starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .options import launch_flags

if TYPE_CHECKING:
    from genai.config.loading import Loaded

    from .output import Output

R = TypeVar("R")


def run_training(
    job: str,
    run: Callable[..., R],
    from_json: Callable[[dict[str, Any]], R],
    loaded: Loaded[Any],
    *,
    nproc: int | None,
    run_name: str | None,
    allow_code: bool,
    output: Output,
) -> R:
    """Run a training job to its end.

    Args:
        job: name of its module in `genai.jobs`.
        run: its function for one process.
        from_json: from what a rank handed back to the job's result.
        loaded: the checked job file.
        nproc: how many ranks; None for this process.
        run_name, allow_code: as on the command line.
        output: whose flags the ranks get.
    """
    if nproc is None:
        return run(loaded, run_name=run_name, allow_code=allow_code)
    from genai.launch.local import launch_local

    flags = launch_flags(output, allow_code=allow_code)
    path: Path = loaded.path
    return from_json(launch_local(job, path, loaded.overrides, nproc=nproc, run_name=run_name, flags=flags))
