from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.data.token_streams.mixing import choose_samples
from genai.data.token_streams.specs import StreamSpec
from genai.errors import UsageError


def spec(**weights: float) -> StreamSpec:
    return StreamSpec(name="s", remote="x", **weights)  # type: ignore[arg-type]


def test_each_sample_once_unless_something_is_said() -> None:
    assert choose_samples([spec(), spec()], [5, 7], None) == [5, 7]


def test_absolute_weights() -> None:
    specs = [spec(repeat=2.5), spec(choose=3), spec(), spec(repeat=0)]
    assert choose_samples(specs, [5, 7, 2, 9], None) == [12, 3, 2, 0]


def test_proportions_share_what_there_is_or_the_epoch_size() -> None:
    specs = [spec(proportion=3), spec(proportion=1)]
    assert choose_samples(specs, [10, 30], None) == [30, 10]
    assert choose_samples(specs, [10, 30], 1000) == [750, 250]
    assert choose_samples([spec(proportion=0.1), spec(proportion=0.2)], [1, 1], 3) == [1, 2]


def test_an_epoch_size_alone_is_shared_by_size() -> None:
    assert choose_samples([spec(), spec()], [10, 30], 8) == [2, 6]
    assert choose_samples([spec()], [10], 25) == [25]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(1, 10_000))
def test_shares_add_up_and_are_off_by_less_than_one(proportions: list[int], epoch_size: int) -> None:
    specs = [spec(proportion=value) for value in proportions]
    chosen = choose_samples(specs, [9] * len(specs), epoch_size)
    assert sum(chosen) == epoch_size
    for count, value in zip(chosen, proportions, strict=True):
        assert abs(count - epoch_size * value / sum(proportions)) < 1


@pytest.mark.parametrize(
    ("specs", "sizes", "epoch_size", "said"),
    [
        ([], [], None, "there is no stream"),
        ([spec(proportion=1, repeat=1)], [1], None, "both proportion and repeat"),
        ([spec(proportion=1), spec()], [1, 1], None, "has no proportion"),
        ([spec(repeat=-1)], [1], None, "repeat of -1"),
        ([spec(proportion=float("nan"))], [1], None, "proportion of nan"),
        ([spec(proportion=float("inf"))], [1], None, "proportion of inf"),
        ([spec(choose=1)], [1], 5, "epoch_size cannot be met"),
        ([spec()], [1], 0, "epoch_size of 0"),
        ([spec(choose=2)], [0], None, "is empty"),
        ([spec(choose=0)], [5], None, "no sample"),
        ([spec()], [0], None, "no sample"),
        ([spec(proportion=0)], [5], None, "all streams are 0"),
    ],
)
def test_weights_that_cannot_be_met(
    specs: list[StreamSpec], sizes: list[int], epoch_size: int | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        choose_samples(specs, sizes, epoch_size)
