"""One rank of a job: what `python -m genai.jobs.JOB CONFIG.yaml [KEY=VALUE]...` does, started by torchrun.

    genai JOB ... --nproc N      starts torchrun here and tells the result (`genai.launch.local`)
    torchrun ... -m genai.jobs.JOB CONFIG.yaml    the same by hand, on many machines; rank 0 prints the result as JSON

A launcher names a folder in the environment, into which every rank writes how it ended (`genai.tracking.rank_reports`).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from genai import log
from genai.config.loading import Loaded, load
from genai.errors import StoppedError
from genai.jobs.training_run import TrainingResult
from genai.tracking.rank_reports import Reporter

if TYPE_CHECKING:
    from genai.training.parallel.ranks import Ranks


class RunRank(Protocol):
    """A job's function for one rank."""

    def __call__(
        self, loaded: Loaded[Any], *, run_name: str | None, allow_code: bool, ranks: Ranks
    ) -> TrainingResult | None: ...


def main(schema: type[Any], run: RunRank, arguments: Sequence[str] | None = None) -> int:
    """Be one rank of a job.

    Args:
        schema: the job's config class.
        run: the job; gives its result on rank 0 and None elsewhere.
        arguments: the words after the module's name; by default those of this process.

    Returns:
        the exit code.
    """
    options = _parse(arguments)
    reporter = Reporter.from_environment(os.environ)
    _configure_log(options, rank=int(os.environ.get("RANK", "0")))
    reporter.begin()
    try:
        result = _run(schema, run, options, reporter)
    except BaseException as error:
        code = reporter.fail(error)
        reporter.wait_for_main()
        return code
    if result is not None and not reporter.result(result.to_json()):
        print(json.dumps(result.to_json(), ensure_ascii=False, default=str))
    return 0


def end(code: int) -> NoReturn:
    """End this process at once: torch's threads for gloo may abort the usual end, after all is done.

    Seen with torch 2.13, in one of five processes on a busy machine: a static object is destroyed while its thread
    still runs (`terminate called without an active exception`), and a finished run looks like a killed one.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(schema: type[Any], run: RunRank, options: argparse.Namespace, reporter: Reporter) -> TrainingResult | None:
    loaded = load(options.config, schema, options.overrides)
    from genai.training.parallel.ranks import open_ranks

    with open_ranks(loaded.config.device) as ranks:
        try:
            result = run(loaded, run_name=options.run_name, allow_code=options.allow_code, ranks=ranks)
            # Rank 0 exports and reports alone, but one that leaves takes its connections with it.
            ranks.wait()
            return result
        except StoppedError:
            # All ranks end alike; whoever ends first, torchrun sends the others a signal.
            ranks.wait()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise
        except BaseException as error:
            # Told before the group is left, which may wait for ranks that are gone.
            reporter.fail(error)
            raise


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One rank of a job; started by torchrun.")
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--run-name")
    parser.add_argument("--allow-code", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--debug", action="store_true")
    return parser.parse_args(arguments)


def _configure_log(options: argparse.Namespace, *, rank: int) -> None:
    """Rank 0 talks; of the others only errors are heard, with their number."""
    if rank == 0:
        log.configure(quiet=options.quiet, debug=options.debug)
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"[rank {rank}] %(message)s"))
    log.configure(debug=options.debug, handler=handler)
    if not options.debug:
        logging.getLogger("genai").setLevel(logging.ERROR)
