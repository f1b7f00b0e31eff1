"""Which rank a process is, and what a process that is alone does without asking anybody."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
import torch.distributed as dist

from genai.errors import UsageError
from genai.training.parallel import ranks as module
from genai.training.parallel.ranks import Ranks, backend_of, open_ranks, ranks_of, stay_on_loopback

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}


def test_a_process_that_nobody_launched_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with open_ranks("cpu") as ranks:
        assert ranks == Ranks()
        assert ranks.is_main
        assert not dist.is_initialized()


def test_alone_everything_stays_as_it_is() -> None:
    ranks = Ranks()
    assert ranks.sum([1.5, 2.0]) == [1.5, 2.0]
    assert ranks.max([3]) == [3]
    assert ranks.share(lambda: {"a": [1]}) == {"a": [1]}
    assert len(ranks.gather(torch.ones(2))) == 1
    ranks.wait()
    with ranks.main_first():
        pass


def test_the_place_is_what_torchrun_says() -> None:
    ranks = ranks_of(TORCHRUN, "cpu")
    assert (ranks.rank, ranks.world_size, ranks.local_rank, ranks.local_world_size) == (5, 8, 1, 4)
    assert not ranks.is_main
    assert ranks.device == torch.device("cpu")


def test_each_rank_of_a_machine_has_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert ranks_of(TORCHRUN, "auto").device == torch.device("cuda", 1)
    assert backend_of(torch.device("cuda", 1)) == "cpu:gloo,cuda:nccl"
    assert backend_of(torch.device("cpu")) == "gloo"


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="4 ranks need as many GPUs, this machine has 2") as error:
        ranks_of(TORCHRUN, "cuda")
    assert error.value.fix == "--nproc 2, or device: cpu"


def test_gloo_listens_on_this_machine_only_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces: Any = lambda: [(1, "lo"), (2, "eth0")]  # noqa: E731
    monkeypatch.setattr(module.socket, "if_nameindex", interfaces)
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    stay_on_loopback()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "lo"
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    stay_on_loopback()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth0"
