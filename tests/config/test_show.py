from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from genai.config.dialect import read
from genai.config.finetune import FinetuneConfig
from genai.config.loading import load
from genai.config.show import origins, resolved_values, show
from genai.config.tree import Origin, plain

Write = Callable[..., Path]
TEXT = """\
variables: {lr: 1e-4, odd: [{a: 1}, "x, y", "1e-4", "yes"]}
optimizer: {name: adamw, lr: "${variables.lr}"}
tokenizer: {chat_template: "{{ messages }}\\n# end"}
callbacks: {webhook: {url: env:HOOK}}
"""


def test_what_is_shown_reads_as_what_is_meant(write: Write, minimal: str) -> None:
    loaded = load(write(minimal + TEXT), FinetuneConfig, ["seed=3"])
    for with_origins in (False, True):
        tree, problems = read(show(loaded, with_origins=with_origins), Origin("file", "shown"))
        assert tree is not None and not problems
        assert plain(tree) == resolved_values(loaded)


def test_what_is_shown_loads_as_the_same_job(write: Write, minimal: str) -> None:
    loaded = load(write(minimal + TEXT), FinetuneConfig)
    again = load(write(show(loaded), "again.yaml"), FinetuneConfig)
    assert again.config == loaded.config


def test_origins_are_comments_on_each_value(write: Write, minimal: str) -> None:
    write("max_seq_len: 99\n", "common.yaml")
    loaded = load(write("base: common.yaml\n" + minimal + TEXT), FinetuneConfig, ["seed=3"])
    lines = {line.split(":")[0].strip(): line for line in show(loaded, with_origins=True).splitlines()}
    assert lines["seed"].split() == ["seed:", "3", "#", "override"]
    assert lines["max_seq_len"].endswith("# default")  # the data set's, which is shown last
    assert lines["url"].split("#")[1].strip() == "job.yaml:10"
    assert lines["precision"].split("#")[1].strip() == "default"
    assert "#" not in lines["model"]


def test_origins_by_key(write: Write, minimal: str) -> None:
    write("max_seq_len: 99\n", "common.yaml")
    found = origins(load(write("base: common.yaml\n" + minimal + TEXT), FinetuneConfig, ["seed=3"]))
    assert found["max_seq_len"] == "base common.yaml:1"
    assert (found["seed"], found["optimizer.lr"], found["compile"]) == ("override", "job.yaml:8", "default")
