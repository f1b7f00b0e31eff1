from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import pytest
from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from genai.config.dialect import read
from genai.config.faults import Fault, faults_of
from genai.config.finetune import FinetuneConfig
from genai.config.tree import Origin, plain


def _even(number_text: str) -> str:
    if len(number_text) % 2:
        raise ValueError(f"{number_text!r} has an odd length")
    return number_text


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part."""

    size: int
    """How large it is."""


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A whole."""

    part: Part
    """The part."""
    even: Annotated[str, AfterValidator(_even)] = ""
    """A text of even length."""
    tags: str | list[str] = "x"
    """One or several."""
    one: int = 1
    two: int = 1
    three: int = 1
    four: int = 1
    five: int = 1
    six: int = 1
    deep: dict[str, list[int]] = field(default_factory=dict)


def faults(text: str, schema: type = Whole, job: str | None = None) -> list[Fault]:
    tree, _ = read(text, Origin("file", "job.yaml"))
    assert tree is not None
    values = plain(tree)
    adapter = TypeAdapter(list[schema], config=ConfigDict(extra="forbid", strict=True))  # type: ignore[valid-type]
    with pytest.raises(ValidationError) as error:
        adapter.validate_python([values], strict=False)
    return faults_of(error.value, schema, tree, values, job)


def lines(text: str, schema: type = Whole, job: str | None = None) -> list[str]:
    return [fault.problem.line() for fault in faults(text, schema, job)]


def test_a_missing_section_says_what_it_needs() -> None:
    assert lines("one: 1") == ["job.yaml:1:1: 'part' is missing (write part: {size: ...})"]


def test_a_missing_value_comes_with_its_documentation() -> None:
    assert lines("one: 1\npart: {}") == ["job.yaml:2:1: 'part.size' is missing (How large it is.)"]


def test_a_rule_of_its_own_speaks_for_itself() -> None:
    assert lines("part: {size: 1}\neven: abc") == ["job.yaml:2:1: even: 'abc' has an odd length"]


def test_a_rule_of_its_own_does_not_repeat_long_or_secret_text() -> None:
    secret = "hf_" + "a1" * 16
    (line,) = lines(f"part: {{size: 1}}\neven: {secret}\n")
    assert secret not in line
    (line,) = lines(f"part: {{size: 1}}\neven: {'a' * 1001}")
    assert len(line) < 200 and "aaa..." in line


def test_a_list_is_blamed_at_its_item_and_a_word_as_a_whole() -> None:
    assert lines("part: {size: 1}\ntags: [a, 1]") == [
        "job.yaml:2:11: tags.1 must be text, not 1 (put it in quotes: '1')"
    ]
    assert lines("part: {size: 1}\ntags: {a: b}") == [
        "job.yaml:2:1: tags must be text or a list (of text), not a section (write the whole list: tags: [...])"
    ]


def test_values_in_free_sections() -> None:
    assert lines("part: {size: 1}\ndeep: {a: [1, x]}") == ["job.yaml:2:15: deep.a.1 must be a whole number, not 'x'"]


def test_many_keys_are_not_listed() -> None:
    assert lines("part: {size: 1, zzz: 1}") == ["job.yaml:1:17: unknown key 'part.zzz' (keys here: size)"]
    assert lines("part: {size: 1}\nzzz: 1", job="j") == [
        "job.yaml:2:1: unknown key 'zzz' (genai config explain j lists the keys)"
    ]


def test_a_key_from_another_place_is_sent_to_the_closest_one() -> None:
    text = "model: {pretrained_model_name_or_path: x, r: 8}\neval_loader: {path: x, dataset: {}}\n"
    assert [line for line in lines(text, FinetuneConfig) if "unknown" in line] == [
        "job.yaml:1:43: unknown key 'model.r' (did you mean 'model.peft_config.r'?)",
        "job.yaml:2:15: unknown key 'eval_loader.path' (did you mean 'eval_loader.dataset.path'?)",
    ]


def test_a_misspelt_key_can_be_mended_once() -> None:
    (fault, *_) = [each for each in faults("prt: {size: 1}\n") if each.mend]
    tree, _ = read("prt: {size: 1}\n", Origin("file", "job.yaml"))
    assert tree is not None and fault.mend is not None
    assert plain(fault.mend(tree)) == {"part": {"size": 1}}
    (other,) = [each for each in faults("model: {attn_config: {}}\n", FinetuneConfig) if "attn" in each.problem.message]
    assert other.problem.fix == "did you mean 'peft_config'?" and other.mend is None
    assert all(each.mend is None for each in faults("prt: {size: 1}\npart: {size: 1}\n"))
