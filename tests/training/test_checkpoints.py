"""What a checkpoint holds, when it exists, which one is taken, and which ones go."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from genai.data.batches import BatchStream
from genai.data.tokenized import TokenizedRows
from genai.errors import DataError
from genai.training.callbacks.early_stopping import EarlyStopping
from genai.training.checkpoints import Checkpoints, load_parameters, trained_parameters
from genai.training.state import TrainState


def make_stream() -> BatchStream:
    rows = TokenizedRows.from_lists([[1] * length for length in (3, 5, 7, 2, 6, 4, 5, 3)])
    settings: dict[str, Any] = {"max_seq_len": 8, "batch_size": 2, "seed": 1, "pad_token_id": 0}
    return BatchStream(rows, **settings, packing=True, shuffle=True, drop_last=False)


def make_model() -> nn.Module:
    """Its first bias is not trained, and no part of a checkpoint."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    nn.init.ones_(model[0].bias.requires_grad_(False))
    return model


@dataclass
class Parts:
    """Everything of a trainer that a checkpoint looks at."""

    model: nn.Module = field(default_factory=make_model)
    stream: BatchStream = field(default_factory=make_stream)
    callbacks: list[Any] = field(default_factory=lambda: [EarlyStopping(patience=3)])
    state: TrainState = field(default_factory=TrainState)
    microbatch_size: int | None = 2
    resumed: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=0.1)

    def step(self) -> None:
        """Move everything that can move."""
        self.model(torch.randn(5, 3)).square().sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        batch = self.stream.next_batch()
        self.state = self.state.advance(
            tokens=batch.num_tokens, trained_tokens=1, samples=1, ends_epoch=batch.ends_epoch, step_s=0.5
        )

    def resume_from(self, name: str, state: TrainState, *, microbatch_size: int | None) -> None:
        self.resumed.append((name, state, microbatch_size))
        self.state = state


def at_batch(parts: Parts, batch: int) -> Any:
    parts.state = replace(parts.state, batch=batch)
    return parts


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Checkpoints]:
    return lambda url=tmp_path / "checkpoints", keep=2: Checkpoints(str(url), keep=keep, context={"seed": 3})


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def assert_continues(checkpoints: Checkpoints) -> None:
    """What a restored trainer does next is what the saved one does next."""
    first: Any = Parts()
    for _ in range(3):
        first.step()
    first.callbacks[0].load_state_dict({"best": 2.5, "waited": 1})
    name = checkpoints.save(first)
    second: Any = Parts()
    torch.manual_seed(99)
    random_state = torch.get_rng_state()
    checkpoints.restore(second, checkpoints.read_state(name))
    assert second.resumed == [(name, first.state, 2)]
    assert second.callbacks[0].state_dict() == {"best": 2.5, "waited": 1}
    assert not torch.equal(torch.get_rng_state(), random_state)
    for parts in (second, first):
        checkpoints.restore(parts, checkpoints.read_state(name))
        parts.step()
    assert second.stream.state_dict() == first.stream.state_dict()
    for ours, theirs in zip(second.model.parameters(), first.model.parameters(), strict=True):
        if ours.requires_grad:
            assert torch.equal(ours, theirs)


def test_a_restored_trainer_goes_on_as_the_saved_one(make: Any) -> None:
    assert_continues(make())


@pytest.mark.integration
def test_the_same_in_a_bucket(make: Any, s3_bucket: str) -> None:
    pytest.importorskip("boto3")
    checkpoints = make(f"{s3_bucket}/run")
    assert_continues(checkpoints)
    assert checkpoints.names() == ["ba00000003"]
    assert checkpoints.newest_good() == "ba00000003"


def test_a_checkpoint_is_four_files_and_none_is_a_pickle(make: Any, tmp_path: Path) -> None:
    parts: Any = Parts()
    parts.step()
    folder = tmp_path / "checkpoints" / make().save(parts)
    names = ["manifest.json", "state.json", "trainer.safetensors", "weights.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert set(load_file(folder / "weights.safetensors")) == {"0.weight", "1.weight", "1.bias"}
    assert {name.partition("/")[0] for name in load_file(folder / "trainer.safetensors")} >= {"exp_avg", "random"}
    saved = json.loads((folder / "state.json").read_text())
    assert saved["context"] == {"seed": 3}
    assert saved["state"]["batch"] == 1


def test_only_a_whole_checkpoint_exists(make: Any, tmp_path: Path) -> None:
    checkpoints, parts = make(), Parts()
    assert checkpoints.names() == []
    assert checkpoints.newest_good() is None
    checkpoints.save(at_batch(parts, 7))
    checkpoints.save(at_batch(parts, 12))
    (tmp_path / "checkpoints" / "ba00000012" / "manifest.json").unlink()
    (tmp_path / "checkpoints" / "notes").mkdir()
    assert checkpoints.names() == ["ba00000007"]
    assert checkpoints.newest_good() == "ba00000007"


@pytest.mark.parametrize("file", ["weights.safetensors", "trainer.safetensors", "state.json"])
def test_a_damaged_one_is_passed_over_loudly(make: Any, tmp_path: Path, file: str, log_lines: list[str]) -> None:
    checkpoints, parts = make(), Parts()
    parts.step()
    for batch in (1, 2):
        checkpoints.save(at_batch(parts, batch))
    damage(tmp_path / "checkpoints" / "ba00000002" / file)
    assert checkpoints.newest_good() == "ba00000001"
    [line] = log_lines
    assert line.startswith("ERROR: checkpoint ba00000002 is damaged")
    assert file in line


def test_the_newest_and_the_best_are_kept(make: Any) -> None:
    checkpoints, parts = make(keep=2), Parts()
    for batch in (1, 2, 3, 4, 5):
        checkpoints.save(at_batch(parts, batch))
        checkpoints.prune(best="ba00000001")
    assert checkpoints.names() == ["ba00000001", "ba00000004", "ba00000005"]


def test_nothing_goes_when_the_newest_cannot_be_read_back(make: Any, tmp_path: Path, log_lines: list[str]) -> None:
    checkpoints, parts = make(keep=1), Parts()
    for batch in (1, 2):
        checkpoints.save(at_batch(parts, batch))
    damage(tmp_path / "checkpoints" / "ba00000002" / "weights.safetensors")
    checkpoints.prune(best=None)
    assert checkpoints.names() == ["ba00000001", "ba00000002"]
    assert any("cannot be read back; older ones are kept" in line for line in log_lines)


def test_a_checkpoint_of_another_format_is_refused(make: Any, tmp_path: Path) -> None:
    checkpoints = make()
    name = checkpoints.save(at_batch(Parts(), 1))
    path = tmp_path / "checkpoints" / name / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(DataError, match="has format 99") as caught:
        checkpoints.read_state(name)
    assert "load_path" in (caught.value.fix or "")


@pytest.mark.parametrize(
    ("model", "first"),
    [(nn.Sequential(nn.Linear(3, 4)), "0.bias"), (nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)), "0.bias")],
)
def test_weights_of_another_model_are_refused(make: Any, tmp_path: Path, model: nn.Module, first: str) -> None:
    name = make().save(at_batch(Parts(), 1))
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(DataError, match=f"do not fit the model: \\d parameters differ, the first is '{first}'"):
        load_parameters(model, tmp_path / "checkpoints" / name / "weights.safetensors")
    assert all(map(torch.equal, before, model.parameters()))


def test_weights_of_another_shape_are_refused(make: Any, tmp_path: Path) -> None:
    name = make().save(at_batch(Parts(), 1))
    other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3))
    other[0].bias.requires_grad_(False)
    with pytest.raises(DataError, match=r"2 parameters differ, the first is '1\.weight'"):
        load_parameters(other, tmp_path / "checkpoints" / name / "weights.safetensors")


def test_tied_weights_are_saved_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    assert list(trained_parameters(model)) == ["0.weight"]
