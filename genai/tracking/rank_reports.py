"""How the ranks of a job that was launched here tell their launcher how they ended: files in a private folder.

    rank-0.pid     the process of rank 0, written when it begins
    rank-1.json    how rank 1 failed, and when
    result.json    what came out, written by rank 0

torchrun tells of a failed rank in its own words, after all others were ended. These files say it in ours, and which of
several failures was the first. Without a folder (torchrun called by hand) a failure is one line on stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from genai.errors import GenaiError, Problem, StoppedError
from genai.storage.atomic import write_json

FOLDER = "GENAI_RANK_REPORTS"
"""Environment variable with the folder."""
STORE = "GENAI_RANK_STORE"
"""Environment variable with the file over which ranks of one machine find each other: no port is opened for that."""
BUG, INTERRUPTED = 70, 130
_WAIT_FOR_MAIN_S = 5.0
_LOST = ("DistBackendError", "DistNetworkError", "DistStoreError")
_LOST_WORDS = ("connection closed by peer", "connection reset by peer", "gloo", "nccl")


class RankLostError(GenaiError):
    """Another rank went away in the middle of something that needs all; why, that rank or its launcher tells."""

    code = "rank_lost"


Kind = Literal["genai", "system", "memory", "interrupted", "lost", "bug"]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How a rank failed."""

    rank: int
    kind: Kind
    """genai: a `GenaiError`; system: an `OSError`; memory: out of it; interrupted: Ctrl-C before training began; lost:
    another rank went away; bug: anything else."""
    time: float
    """When, in seconds since 1970."""
    message: str
    exit_code: int = BUG
    code: str = "bug"
    """As `GenaiError.code`."""
    problems: Sequence[Mapping[str, str | None]] = ()
    """Of a `GenaiError`."""
    errno: int | None = None
    """Of an `OSError`."""
    path: str | None = None
    """The file that an `OSError` names."""
    traceback: str = ""

    def error(self) -> Exception:
        """The error as the launching process raises it, so that it is told as if it had happened there."""
        where = f"rank {self.rank}: " if self.rank else ""
        match self.kind:
            case "genai" if self.code == "stopped":
                fix = self.problems[0]["fix"]
                return StoppedError(self.message, signal_number=self.exit_code - 128, fix=fix)
            case "genai":
                return RankError(self, where)
            case "system":
                return OSError(self.errno, where + self.message, self.path)
            case "memory":
                return MemoryError(where + self.message)
            case "interrupted":
                return StoppedError("interrupted before training began", signal_number=2)
            case "lost":
                fix = "the same command goes on from the last checkpoint"
                return RankLostError(f"{where}another rank went away, and did not say why: {self.message}", fix=fix)
        error = RuntimeError(where + self.message)
        error.add_note(self.traceback)
        return error


class RankError(GenaiError):
    """What a rank raised, with its exit code.

    Args:
        failure: as the rank reported it.
        where: named before the message.
    """

    def __init__(self, failure: Failure, where: str = "") -> None:
        problems = [Problem(message=p["message"] or "", where=p["where"], fix=p["fix"]) for p in failure.problems]
        super().__init__(where + problems[0].message, where=problems[0].where, fix=problems[0].fix)
        self.problems = (*self.problems, *problems[1:])
        self.exit_code = failure.exit_code
        self.code = failure.code


def first_failure(folder: Path, *, lost: bool = False) -> Failure | None:
    """The failure that ended the job: the earliest one that is more than the loss of another rank.

    The same error on all ranks is told as rank 0's.

    Args:
        folder: of the reports.
        lost: the earliest one that is no more than that.
    """
    failures = [Failure(**json.loads(path.read_bytes())) for path in sorted(folder.glob("rank-*.json"))]
    own = [failure for failure in failures if (failure.kind == "lost") == lost]
    if not own:
        return None
    first = min(own, key=lambda failure: failure.time)
    same = [failure for failure in own if (failure.kind, failure.message) == (first.kind, first.message)]
    return min(same, key=lambda failure: failure.rank)


def pids(folder: Path) -> list[int]:
    """The processes of the ranks that have begun."""
    return [int(text) for path in folder.glob("rank-*.pid") if (text := path.read_text())]


def read_result(folder: Path) -> dict[str, Any] | None:
    """What rank 0 handed back."""
    try:
        result: dict[str, Any] = json.loads((folder / "result.json").read_bytes())
        return result
    except FileNotFoundError:
        return None


@dataclass(kw_only=True)
class Reporter:
    """One rank's side.

    Args:
        folder: None where no launcher asked for reports.
        rank: of this process.
    """

    folder: Path | None
    rank: int
    _code: int | None = field(default=None, init=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Reporter:
        """As the launcher and torchrun say."""
        folder = environment.get(FOLDER)
        return cls(folder=None if folder is None else Path(folder), rank=int(environment.get("RANK", "0")))

    def begin(self) -> None:
        """Tell that this rank is there, and write to the launcher's stderr from now on."""
        if self.folder is None:
            return
        # torchrun's own words go to a file. Of its three streams it hands on stdin as it is: the launcher's stderr.
        os.dup2(0, 1)
        os.dup2(0, 2)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        (self.folder / f"rank-{self.rank}.pid").write_text(str(os.getpid()))

    def result(self, values: Mapping[str, Any]) -> bool:
        """Hand back what came out; False where nobody asked for it."""
        if self.folder is None:
            return False
        (self.folder / "result.json").write_text(json.dumps(values, default=str))
        return True

    def fail(self, error: BaseException) -> int:
        """Tell how this rank failed, once; returns the exit code."""
        if self._code is not None:
            return self._code
        failure = describe(error, rank=self.rank)
        self._code = failure.exit_code
        if self.folder is None:
            words = [p["message"] for p in failure.problems] or [failure.message]
            print(failure.traceback or "", *(f"error: [rank {self.rank}] {word}" for word in words), file=sys.stderr)
        else:
            write_json(self.folder / f"rank-{self.rank}.json", asdict(failure))
        return self._code

    def wait_for_main(self) -> None:
        """Let a failing rank 0 put its things in order: when one rank is gone, torchrun ends the others."""
        deadline = time.monotonic() + _WAIT_FOR_MAIN_S
        while self.folder is not None and self.rank and time.monotonic() < deadline:
            if (self.folder / "rank-0.json").exists():
                return
            time.sleep(0.02)


def is_lost(error: BaseException) -> bool:
    """Whether an error only says that another rank went away, in the words of gloo, NCCL or torch's store."""
    if isinstance(error, RankLostError) or type(error).__name__ in _LOST:
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _LOST_WORDS)


def describe(error: BaseException, *, rank: int) -> Failure:
    """What a launcher needs to know of an error."""
    text = str(error) or type(error).__name__
    now = time.time()
    if is_lost(error):
        return Failure(rank=rank, kind="lost", time=now, message=text, exit_code=1, code=RankLostError.code)
    if isinstance(error, GenaiError):
        problems = [asdict(problem) for problem in error.problems]
        code, exit_code = error.code, error.exit_code
        return Failure(
            rank=rank, kind="genai", time=now, message=error.message, exit_code=exit_code, code=code, problems=problems
        )
    if isinstance(error, KeyboardInterrupt):
        return Failure(rank=rank, kind="interrupted", time=now, message="interrupted", exit_code=INTERRUPTED)
    if isinstance(error, MemoryError):
        return Failure(rank=rank, kind="memory", time=now, message=text, exit_code=1)
    if isinstance(error, OSError) and error.errno is not None:
        path = None if error.filename is None else str(error.filename)
        message = error.strerror or text
        return Failure(rank=rank, kind="system", time=now, message=message, exit_code=1, errno=error.errno, path=path)
    return Failure(
        rank=rank,
        kind="bug",
        time=now,
        message=f"{type(error).__name__}: {text}",
        traceback="".join(traceback.format_exception(error)),
    )
