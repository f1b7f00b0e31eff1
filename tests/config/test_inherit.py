from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from genai.config.inherit import MAX_FILE_BYTES, read_with_bases
from genai.config.tree import find, plain
from genai.errors import ConfigError, Problem

Write = Callable[..., Path]


def refusal(path: Path) -> Problem:
    with pytest.raises(ConfigError) as error:
        read_with_bases(path)
    (problem,) = error.value.problems
    return problem


def test_a_chain_of_bases_is_merged_from_the_bottom(write: Write) -> None:
    write("a: 1\nb: {x: 1, y: 1}\nc: 1\n", "shared/root.yaml")
    write("base: root.yaml\nb: {y: 2}\nc: 2\n", "shared/middle.yaml")
    path = write("base: ../shared/middle.yaml\nc: 3\n", "jobs/top.yaml")
    tree, problems = read_with_bases(path)
    assert not problems
    assert plain(tree) == {"a": 1, "b": {"x": 1, "y": 2}, "c": 3}
    summaries = {name: node.origin.summary() for name, node in tree.children()}
    assert summaries == {"a": "base shared/root.yaml:1", "b": "base shared/middle.yaml:2", "c": "jobs/top.yaml:2"}
    assert find(tree, ("b", "y")).origin.where() == "shared/middle.yaml:2:5"  # type: ignore[union-attr]


def test_bases_in_a_circle(write: Write) -> None:
    write("base: b.yaml\n", "a.yaml")
    write("base: a.yaml\n", "b.yaml")
    problem = refusal(Path("a.yaml"))
    assert (problem.where, problem.message) == ("b.yaml:1:1", "base goes in a circle: a.yaml -> b.yaml -> a.yaml")
    assert "itself.yaml -> itself.yaml" in refusal(write("base: ./itself.yaml\n", "itself.yaml")).message


@pytest.mark.parametrize("base", ["5", "null", "[a.yaml]", "''", "${variables.x}", "{a: b}"])
def test_a_base_is_the_path_of_a_file(write: Write, base: str) -> None:
    problem = refusal(write(f"a: 1\nbase: {base}\n"))
    assert (problem.where, problem.message) == ("job.yaml:2:1", "base must be the path of another job file")


def test_a_missing_base_is_reported_where_it_is_named(write: Write) -> None:
    write("a: 1\n", "common.yaml")
    problem = refusal(write("a: 1\nbase: comon.yaml\n"))
    assert (problem.where, problem.message) == ("job.yaml:2:1", "no such file: comon.yaml")
    assert problem.fix == "did you mean 'common.yaml'?"


def test_faults_of_a_base_are_reported_in_the_base(write: Write) -> None:
    write("a: 1\na: 2\n", "common.yaml")
    _, problems = read_with_bases(write("base: common.yaml\nb: .inf\n"))
    assert {problem.where for problem in problems} == {"common.yaml:2:1", "job.yaml:2:1"}


@pytest.mark.parametrize(
    ("data", "where", "message"),
    [
        (b"", "job.yaml:1:1", "the file is empty"),
        (b"# nothing\n", "job.yaml:1:1", "the file is empty"),
        (b"- a\n- b\n", "job.yaml:1:1", "a job file holds `key: value` lines"),
        (b"just text\n", "job.yaml:1:1", "a job file holds `key: value` lines"),
        (b"a: 1\nb: \xe9t\xe9\n", "job.yaml:2:4", "not UTF-8 text (byte 0xe9)"),
        ("a: 1".encode("utf-16"), "job.yaml:1:1", "not UTF-8 text (byte 0xff)"),
        (b"a: " + b"x" * MAX_FILE_BYTES, "job.yaml:1:1", "more than 1000000 bytes are no job file"),
    ],
)
def test_files_that_are_no_job_files(write: Write, data: bytes, where: str, message: str) -> None:
    problem = refusal(write(data))
    assert (problem.where, problem.message) == (where, message)


def test_a_byte_order_mark_is_passed_over(write: Write) -> None:
    tree, _ = read_with_bases(write("\ufeffa: 1\n"))
    assert plain(tree) == {"a": 1}
    assert find(tree, ("a",)).origin.where() == "job.yaml:1:1"  # type: ignore[union-attr]


def test_paths_that_cannot_be_read(write: Write) -> None:
    write("a: 1\n", "folder/quickstart.yaml")
    assert refusal(Path("folder")).fix == "job files there: quickstart.yaml"
    assert refusal(Path("folder/quikstart.yaml")).fix == "did you mean 'folder/quickstart.yaml'?"
    assert refusal(Path("nowhere/x.yaml")).fix == "there is no folder nowhere"
    assert refusal(Path("a\0b")).where == "a\0b:1:1"
    os.mkfifo("pipe.yaml")
    assert refusal(Path("pipe.yaml")).message == "pipe.yaml is no regular file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(write: Write) -> None:
    path = write("a: 1\n")
    path.chmod(0)
    assert "Permission denied" in refusal(path).message
