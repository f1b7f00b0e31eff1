"""How many rows a forward pass gets, and what is said where none fits."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from genai.config.finetune import FinetuneConfig
from genai.errors import UsageError
from genai.training.plan.memory import predict
from genai.training.plan.microbatch import check_fits, choose_microbatch

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")
PLENTY = 1 << 40


@pytest.fixture
def meta(make_meta: Callable[..., Any]) -> Any:
    return make_meta(num_hidden_layers=1)


@pytest.fixture
def needed(meta: Any, make_config: Callable[..., FinetuneConfig]) -> Callable[..., int]:
    """Bytes that a job of 16 rows with some microbatch takes."""

    def find(rows: int, *, seq_len: int, **job: Any) -> int:
        config = make_config(global_train_batch_size=16, **job)
        return predict(meta, config, microbatch_size=rows, seq_len=seq_len, device=CPU).total_bytes

    return find


@pytest.mark.parametrize(
    ("seq_len", "mean", "batch", "expected"),
    [
        (1024, None, 8, 1),
        (256, None, 8, 4),
        (64, None, 8, 8),
        (4096, None, 8, 1),
        (512, 128.0, 32, 8),
        (256, 100.0, 4, 4),
    ],
)
def test_with_memory_to_spare_a_cpu_gets_about_a_thousand_tokens(
    seq_len: int, mean: float | None, batch: int, expected: int, meta: Any, make_config: Callable[..., FinetuneConfig]
) -> None:
    config = make_config(global_train_batch_size=batch)
    rows = choose_microbatch(meta, config, seq_len=seq_len, device=CPU, mean_row_tokens=mean, memory_bytes=PLENTY)
    assert rows == expected


def test_little_memory_means_fewer_rows(
    meta: Any, make_config: Callable[..., FinetuneConfig], needed: Callable[..., int]
) -> None:
    config = make_config(global_train_batch_size=16)
    memory = int(needed(4, seq_len=64) / 0.79)
    assert choose_microbatch(meta, config, seq_len=64, device=CPU, memory_bytes=memory) == 4


def test_one_row_that_only_just_fits_is_tried_with_a_warning(
    meta: Any, make_config: Callable[..., FinetuneConfig], needed: Callable[..., int], log_lines: list[str]
) -> None:
    config = make_config(global_train_batch_size=16)
    memory = int(needed(1, seq_len=1024) / 0.9)
    assert choose_microbatch(meta, config, seq_len=1024, device=CPU, memory_bytes=memory) == 1
    assert any("one row needs 90 % of what is free" in line for line in log_lines)


def test_what_cannot_fit_is_refused_with_the_largest_that_does(
    meta: Any, make_config: Callable[..., FinetuneConfig], needed: Callable[..., int]
) -> None:
    config = make_config(global_train_batch_size=16)
    memory = needed(5, seq_len=256)
    with pytest.raises(UsageError, match="8 x 256 tokens need about") as caught:
        check_fits(meta, config, microbatch_size=8, seq_len=256, device=CPU, memory_bytes=memory)
    assert caught.value.fix == "set device_train_microbatch_size: 5"
    check_fits(meta, config, microbatch_size=5, seq_len=256, device=CPU, memory_bytes=memory)


def test_then_checkpointing_and_then_a_shorter_row_are_proposed(
    meta: Any, make_config: Callable[..., FinetuneConfig], needed: Callable[..., int]
) -> None:
    config = make_config(global_train_batch_size=16)
    checkpointed = needed(1, seq_len=4096, activation_checkpointing=True)
    with pytest.raises(UsageError) as caught:
        choose_microbatch(meta, config, seq_len=4096, device=CPU, memory_bytes=checkpointed)
    assert caught.value.fix == "set activation_checkpointing: true and device_train_microbatch_size: 1"
    half = needed(1, seq_len=2048, activation_checkpointing=True)
    with pytest.raises(UsageError) as caught:
        choose_microbatch(meta, config, seq_len=4096, device=CPU, memory_bytes=half)
    found = re.search(r"max_seq_len: (\d+)", caught.value.fix or "")
    assert found is not None and int(found[1]) == 2048


@pytest.mark.parametrize(("peft", "fix"), [(None, "train an adapter"), ({"r": 2}, "take a smaller model")])
def test_a_model_too_large_for_the_machine(
    peft: dict[str, Any] | None, fix: str, meta: Any, make_config: Callable[..., FinetuneConfig]
) -> None:
    with pytest.raises(UsageError) as caught:
        choose_microbatch(meta, make_config(peft), seq_len=64, device=CPU, memory_bytes=1 << 20)
    assert fix in (caught.value.fix or "")


def test_a_model_that_cannot_be_predicted_is_tried_row_by_row(
    meta: Any, make_config: Callable[..., FinetuneConfig], log_lines: list[str]
) -> None:
    config = make_config(model={"attn_implementation": "eager"})
    meta.model.norm.forward = lambda hidden: hidden * hidden.detach().numpy().max()
    assert choose_microbatch(meta, config, seq_len=64, device=CPU, memory_bytes=PLENTY) == 1
    check_fits(meta, config, microbatch_size=4, seq_len=64, device=CPU, memory_bytes=PLENTY)
    assert sum("cannot be predicted" in line for line in log_lines) == 2
