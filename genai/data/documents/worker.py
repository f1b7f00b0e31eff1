"""The process that parses: `python -m genai.data.documents.worker MEMORY_BYTES TIME_S`, a socket as its input.

It reads one message a file, answers it, and ends when the socket does. It sets its own limits before it reads anything;
time is kept by the parent, and once more here in CPU seconds, for a parent that was killed.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import sys
from typing import Any

from genai.data.documents.frames import BrokenFrameError, receive, send
from genai.data.documents.parsing import parse
from genai.errors import DataError, MissingExtraError

_MOST_OPEN_FILES = 64


def main() -> None:
    """Serve the socket that is this process's standard input."""
    memory_bytes, time_s = int(sys.argv[1]), float(sys.argv[2])
    connection = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)  # it has nothing to write to a disk
    _limit(resource.RLIMIT_NOFILE, _MOST_OPEN_FILES)
    send(connection, {"ready": True})
    while True:
        try:
            header, content = receive(connection)
            _limit_cpu(time_s)
            answer, text = _answer(content, header["suffix"])
            del content
            send(connection, answer, text)
        except BrokenFrameError:
            return
        except MemoryError:
            os._exit(errno.ENOMEM)  # what the parent knows this by


def _answer(content: bytes, suffix: str) -> tuple[dict[str, Any], bytes]:
    try:
        document = parse(content, suffix)
        sections = [(section.start, section.level, section.title) for section in document.sections]
        return {"page_starts": document.page_starts, "sections": sections}, document.text.encode()
    except DataError as error:
        return {"error": error.message, "fix": error.fix}, b""
    except MissingExtraError as error:
        return {"missing_extra": error.message, "fix": error.fix}, b""
    except MemoryError:
        raise
    except Exception as error:  # a fault of a parser with a strange file: told, like every other reason
        return {"error": f"the parser failed: {type(error).__name__}: {error}", "fix": None}, b""


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, hard))


def _limit_cpu(time_s: float) -> None:
    """End this process by a signal when it uses much more than `time_s` from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + time_s) + 1)


if __name__ == "__main__":
    main()
