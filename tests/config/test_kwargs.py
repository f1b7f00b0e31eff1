from __future__ import annotations

from typing import Any

from genai.config.kwargs import check_kwargs


def load(path: str, *, split: str = "train", streaming: bool = False) -> None:
    """Takes what it names."""


def open_ended(path: str, **kwargs: Any) -> None:
    """Takes everything."""


class Built:
    def __init__(self, size: int, colour: str = "red") -> None:
        self.size, self.colour = size, colour


def test_known_arguments_pass() -> None:
    assert check_kwargs(load, {"split": "x", "streaming": True}) == []


def test_an_unknown_argument_is_named_with_the_nearest() -> None:
    assert check_kwargs(load, {"streming": True, "zzz": 1}) == [
        ("streming", "load takes no argument 'streming'", "did you mean 'streaming'?"),
        ("zzz", "load takes no argument 'zzz'", None),
    ]


def test_arguments_that_genai_sets() -> None:
    (problem,) = check_kwargs(load, {"path": "x"}, set_by_genai=["path"])
    assert problem == ("path", "'path' is set by another key of the job file", "remove it here")


def test_a_callee_that_takes_everything() -> None:
    assert check_kwargs(open_ended, {"anything": 1}) == []
    (problem,) = check_kwargs(open_ended, {"us_fast": 1, "use_fast": 1}, also_known=["use_fast"])
    assert problem == ("us_fast", "open_ended takes no argument 'us_fast'", "did you mean 'use_fast'?")


def test_classes_and_methods() -> None:
    assert check_kwargs(Built, {"colour": "x", "self": 1})[0][0] == "self"
    assert check_kwargs(Built(1).__init__, {"size": 1}) == []  # type: ignore[misc]
