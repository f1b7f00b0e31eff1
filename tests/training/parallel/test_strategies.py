"""Two ranks train what one process trains: the same losses, norms and counts, whatever is shared and however it ends.

The rows have unequal trained tokens, a batch of which one rank's half trains nothing, and a last batch of one row
(see tests/plugins/rank_jobs.py). All in float32, compared within 1e-5.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import rank_jobs
import torch

from genai.config.training import FsdpConfig, MuonConfig
from genai.errors import DataError
from genai.training.parallel.ranks import Ranks, open_ranks
from genai.training.parallel.sharded_tensors import whole_state_dict

pytestmark = pytest.mark.integration
ON_TWO = (
    *("ddp", "ddp_lora", "fsdp", "fsdp_full", "fsdp_background", "dropout", "stop"),
    *("resume_ddp", "resume_fsdp", "resume_fsdp_from_whole", "resume_one", "resume_dropout"),
    *("tensor", "native_tensor", "native_fsdp", "native_muon"),
    *("resume_native_tensor", "resume_native_tensor_sharded"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def single(folder: Path) -> dict[str, Any]:
    """What one process does."""
    return rank_jobs.train(folder / "one", Ranks())


@pytest.fixture(scope="module")
def native(folder: Path) -> dict[str, Any]:
    """What one process does with our own Llama."""
    return rank_jobs.train(folder / "one_native", Ranks(), native=True)


@pytest.fixture(scope="module")
def two(folder: Path, single: dict[str, Any]) -> dict[str, Any]:
    """What two ranks do, each way; in one go, since most of the time goes into starting them."""
    return rank_jobs.run_ranks(2, folder, *ON_TWO)


def assert_same(found: dict[str, Any], expected: dict[str, Any], *, from_batch: int = 1) -> None:
    for name in ("loss/train", "grad_norm", "loss/eval"):
        wanted = {batch: value for batch, value in expected[name].items() if int(batch) >= from_batch}
        assert found[name] == pytest.approx(wanted, rel=1e-5), name
    assert found["tokens"] == expected["tokens"]
    assert found["trained_tokens"] == expected["trained_tokens"]


@pytest.mark.parametrize("name", ["ddp", "fsdp", "fsdp_full", "fsdp_background"])
def test_two_ranks_train_what_one_trains(two: Any, single: Any, name: str) -> None:
    assert len(single["loss/train"]) == 10
    assert_same(two[name], single)


def test_two_ranks_compute_each_product_together(two: Any, single: Any, native: Any) -> None:
    assert_same(two["tensor"], single)
    assert_same(two["native_tensor"], native)


def test_our_own_llama_is_sharded_too(two: Any, native: Any) -> None:
    assert_same(two["native_fsdp"], native)


def test_muon_orthogonalises_whole_matrices(two: Any, tmp_path: Path) -> None:
    expected = rank_jobs.train(tmp_path, Ranks(), native=True, optimizer=MuonConfig())
    # Its Newton-Schulz steps are in bfloat16.
    assert two["native_muon"]["loss/train"] == pytest.approx(expected["loss/train"], rel=1e-4)


def test_parts_of_matrices_are_saved_and_read_by_anyone(two: Any, native: Any, folder: Path) -> None:
    assert_same(two["resume_native_tensor"], native, from_batch=9)
    assert_same(two["resume_native_tensor_sharded"], native, from_batch=5)
    assert_same(rank_jobs.resume(folder / "native_tensor", Ranks(), "ba00000004", native=True), native, from_batch=5)


def test_sharded_and_whole_models_train_alike(two: Any) -> None:
    assert_same(two["fsdp"], two["ddp"])


def test_an_adapter_is_trained_alike(two: Any, folder: Path) -> None:
    assert_same(two["ddp_lora"], rank_jobs.train(folder / "one_lora", Ranks(), lora=True))


@pytest.mark.parametrize("name", ["resume_ddp", "resume_fsdp", "resume_fsdp_from_whole"])
def test_two_ranks_go_on_from_what_two_saved(two: Any, single: Any, name: str) -> None:
    assert_same(two[name], single, from_batch=5)


@pytest.mark.parametrize("saved", ["ddp", "fsdp", "fsdp_full", "fsdp_background"])
def test_one_process_goes_on_from_what_two_ranks_saved(two: Any, single: Any, folder: Path, saved: str) -> None:
    assert_same(rank_jobs.resume(folder / saved, Ranks(), "ba00000008"), single, from_batch=9)


def test_two_ranks_go_on_from_what_one_process_saved(two: Any, single: Any) -> None:
    assert_same(two["resume_one"], single, from_batch=9)


@pytest.mark.slow
def test_four_ranks_go_on_from_what_two_saved(two: Any, single: Any, folder: Path) -> None:
    found = rank_jobs.run_ranks(4, folder, "resume_ddp", "resume_fsdp", "resume_fsdp_from_whole")
    for result in found.values():
        assert_same(result, single, from_batch=5)


@pytest.mark.slow
def test_four_ranks_train_what_one_trains(single: Any, native: Any, folder: Path) -> None:
    found = rank_jobs.run_ranks(4, folder / "four", "ddp", "fsdp", "tensor", "native_tensor")
    for name, result in found.items():
        assert_same(result, native if name.startswith("native") else single)


def test_a_checkpoint_of_shards_gives_whole_weights(two: Any, folder: Path) -> None:
    _, sharded, _ = rank_jobs.make_trainer(folder / "fsdp", Ranks())
    _, whole, _ = rank_jobs.make_trainer(folder / "ddp", Ranks())
    ours, theirs = sharded.whole_weights("ba00000010"), whole.whole_weights("ba00000010")
    assert ours.keys() == theirs.keys()
    model = rank_jobs.make_model()
    missing = model.load_state_dict(ours, strict=False)
    assert not missing.unexpected_keys
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-3, atol=1e-5)


def test_an_index_that_was_changed_is_not_unpickled(two: Any, folder: Path) -> None:
    trainer, checkpoints, _ = rank_jobs.make_trainer(folder / "fsdp", Ranks())
    saved = checkpoints.read_state("ba00000004")
    index = folder / "fsdp" / "ba00000004" / "shards" / ".metadata"
    content = index.read_bytes()
    index.write_bytes(content[:-1] + b"?")
    try:
        with pytest.raises(DataError, match="not what the manifest says"):
            checkpoints.restore(trainer, saved)
    finally:
        index.write_bytes(content)


def test_every_rank_has_its_part_on_the_disk(two: Any, folder: Path) -> None:
    names = sorted(path.name for path in (folder / "fsdp" / "ba00000004" / "shards").iterdir())
    assert names == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    assert not (folder / "fsdp" / "ba00000004" / "weights.safetensors").exists()
    assert (folder / "fsdp_full" / "ba00000004" / "weights.safetensors").exists()


def test_a_signal_to_one_rank_stops_all_at_the_same_batch(two: Any, folder: Path, single: Any) -> None:
    stopped = two["stop"]
    assert stopped["batches"] == [3, 3]
    assert stopped["saved"] == ["ba00000003"]
    assert_same(rank_jobs.resume(folder / "stop", Ranks(), "ba00000003"), single, from_batch=4)


def test_dropout_differs_between_ranks_and_goes_on_where_it_was(two: Any) -> None:
    whole = two["dropout"]["loss/train"]
    assert two["resume_dropout"]["loss/train"] == {batch: whole[batch] for batch in whole if int(batch) > 4}
    assert two["dropout"]["streams_differ"]


def test_a_process_alone_can_shard_too(tmp_path: Path, single: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with open_ranks("cpu") as ranks:
        found = rank_jobs.train(tmp_path, ranks, fsdp=FsdpConfig(), layout="sharded")
    assert_same(found, single)
    assert not torch.distributed.is_initialized()


def test_a_sharded_model_gives_the_weights_of_a_whole_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with open_ranks("cpu") as ranks:
        trainer, _, _ = rank_jobs.make_trainer(tmp_path, ranks, fsdp=FsdpConfig())
        found = whole_state_dict(trainer.model, ranks)
    expected = rank_jobs.make_model().state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_shards_without_ranks(tmp_path: Path, single: Any) -> None:
    settings: dict[str, Any] = {"layout": "sharded", "in_background": True}
    assert_same(rank_jobs.train(tmp_path, Ranks(), **settings), single)
    assert_same(rank_jobs.resume(tmp_path, Ranks(), "ba00000008", **settings), single, from_batch=9)


def test_the_config_names_what_has_no_effect() -> None:
    from genai.config.training import FSDP_WITHOUT_EFFECT

    assert set(FSDP_WITHOUT_EFFECT) < set(FsdpConfig.__dataclass_fields__)
