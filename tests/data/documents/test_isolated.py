from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from document_makers import make_docx, make_pdf, paragraph

from genai.data.documents import IsolatedParser, ParseLimits, Section
from genai.errors import DataError, GenaiError, UsageError

ENDLESS = b"<p>x" + b"<!" * 200_000
"""A page over which the standard library's parser takes minutes."""


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def parser() -> Iterator[IsolatedParser]:
    parser = IsolatedParser(ParseLimits(time_s=20))
    yield parser
    parser.close()


def _children() -> list[int]:
    """Processes that this one started."""
    tasks = Path("/proc/self/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_process_reads_file_after_file(parser: IsolatedParser) -> None:
    before = set(_children())
    first = parser.parse(make_pdf([["one"], ["two"]]), ".pdf", name="a.pdf")
    assert (first.text, first.page_starts) == ("one\n\ntwo", (0, 5))
    (pid,) = set(_children()) - before
    second = parser.parse("# Größe 😀\n".encode(), ".md", name="b.md")
    assert second.sections == (Section(start=0, level=1, title="Größe 😀"),)
    assert parser.parse(make_docx(paragraph("x")), ".docx", name="c.docx").text == "x"
    assert set(_children()) - before == {pid}
    parser.close()
    assert set(_children()) == before
    assert parser.parse(b"again", ".txt", name="d.txt").text == "again"


@pytest.mark.parametrize(
    ("suffix", "content", "reason"),
    [
        (".pdf", make_pdf([["x"]], protected=True), "protected by a password"),
        (".pdf", make_pdf([[]]), "holds no text"),
        (".pdf", b"", "is empty"),
        (".docx", make_docx(paragraph("x"))[:200], "damaged or cut off"),
        (".docx", make_docx(paragraph("a" * (6 << 20))), "zip bomb"),
        (".txt", b"caf\xe9", "no UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(parser: IsolatedParser, suffix: str, content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        parser.parse(content, suffix, name=f"docs/a{suffix}")
    assert caught.value.where == f"docs/a{suffix}"
    assert parser.parse(b"next", ".txt", name="next.txt").text == "next"


def test_a_file_that_takes_too_long_is_given_up() -> None:
    parser = IsolatedParser(ParseLimits(time_s=0.5))
    parser.parse(b"warm", ".txt", name="warm.txt")
    started = time.monotonic()
    with pytest.raises(DataError, match=r"takes more than 0\.5 s") as caught:
        parser.parse(ENDLESS, ".html", name="endless.html")
    assert time.monotonic() - started < 2
    assert caught.value.where == "endless.html"
    assert parser.parse(b"<p>next", ".html", name="next.html").text == "next"
    parser.close()


@pytest.mark.parametrize("warm", [False, True])
def test_a_file_that_needs_too_much_memory_is_given_up(warm: bool) -> None:
    parser = IsolatedParser(ParseLimits(time_s=20, memory_bytes=128 << 20))
    if warm:
        parser.parse(b"warm", ".txt", name="warm.txt")
    for size in (40 << 20, 70 << 20):  # the second one is not even received
        with pytest.raises(DataError, match="needs more than 128 MiB of memory"):
            parser.parse(b"word " * (size // 5), ".txt", name="large.txt")
        assert parser.parse(b"next", ".txt", name="next.txt").text == "next"
    parser.close()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_costs_that_file_only(parser: IsolatedParser, number: signal.Signals) -> None:
    before = set(_children())
    killed: list[int] = []

    def kill_all() -> None:
        while len(killed) < 2:  # the process that was there, and the new one that tries once more
            for pid in set(_children()) - before - set(killed):
                if _cpu_s(pid) > 0.5:  # it has started, and works on the file
                    os.kill(pid, number)
                    killed.append(pid)
            time.sleep(0.02)

    parser.parse(b"warm", ".txt", name="warm.txt")
    killer = threading.Thread(target=kill_all)
    killer.start()
    with pytest.raises(DataError, match=f"the parser crashed on this file: {number.name}"):
        parser.parse(ENDLESS, ".html", name="crash.html")
    killer.join()
    assert parser.parse(b"next", ".txt", name="next.txt").text == "next"
    assert len(set(killed)) == 2


def test_a_process_that_died_between_two_files_is_replaced(parser: IsolatedParser) -> None:
    before = set(_children())
    parser.parse(b"one", ".txt", name="one.txt")
    (pid,) = set(_children()) - before
    os.kill(pid, signal.SIGKILL)
    assert parser.parse(b"two", ".txt", name="two.txt").text == "two"


def test_threads_take_turns(parser: IsolatedParser) -> None:
    found: dict[int, str] = {}

    def read(number: int) -> None:
        found[number] = parser.parse(str(number).encode(), ".txt", name="x").text

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: str(number) for number in range(8)}


def test_a_parser_that_nobody_closes_leaves_no_process() -> None:
    before = set(_children())
    parser = IsolatedParser(ParseLimits())
    parser.parse(b"x", ".txt", name="x")
    del parser
    gc.collect()
    assert set(_children()) == before


def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, signal, threading, time\n"
        "from genai.data.documents import IsolatedParser, ParseLimits\n"
        "parser = IsolatedParser(ParseLimits(time_s=1))\n"
        "parser.parse(b'x', '.txt', name='x')\n"
        "print(pathlib.Path(f'/proc/self/task/{os.getpid()}/children').read_text(), flush=True)\n"
        "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()\n"
        f"parser.parse({ENDLESS[:4]!r} + b'<!' * 200_000, '.html', name='endless')\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == -signal.SIGKILL, found.stderr
    (pid,) = (int(word) for word in found.stdout.split())
    deadline = time.monotonic() + 15
    while _alive(pid):
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.05)


def test_the_process_knows_no_secrets(parser: IsolatedParser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hush")
    before = set(_children())
    parser.parse(b"x", ".txt", name="x")
    (pid,) = set(_children()) - before
    assert b"hush" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_missing_package_is_no_fault_of_the_file(
    parser: IsolatedParser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pypdfium2.py").write_text("raise ModuleNotFoundError('none', name='pypdfium2')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="pypdfium2") as caught:
        parser.parse(make_pdf([["x"]]), ".pdf", name="a.pdf")
    assert caught.value.fix == "pip install 'genai-foundry[index]'"


def test_a_process_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho first >&2\necho no such module >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(GenaiError, match=r"did not start: exit code 3 \(no such module\)"):
        IsolatedParser(ParseLimits()).parse(b"x", ".txt", name="x")


def test_too_little_memory_is_said_before_anything_starts() -> None:
    with pytest.raises(UsageError, match="less than 128mb"):
        IsolatedParser(ParseLimits(memory_bytes=64 << 20))
