from pathlib import Path

import pytest

from genai.errors import GateError
from genai.storage.atomic import free_bytes
from genai.training.proofs.disk import DiskNeed, prove_disk


def need(path, size_bytes, what="2 checkpoints"):
    return DiskNeed(what=what, path=path, size_bytes=size_bytes)


def test_room_enough(tmp_path):
    result = prove_disk([need(tmp_path / "runs/a/checkpoints", 1 << 20), need(tmp_path, 1 << 20, "the export")])
    assert result.ok and result.numbers["needed_bytes"] == 2 << 20
    assert result.details[0].startswith("2 checkpoints (0.00 GiB) and the export (0.00 GiB): ")


def test_too_little_room(tmp_path):
    with pytest.raises(GateError) as caught:
        prove_disk([need(tmp_path / "not/there/yet", 1 << 60)])
    assert "GiB free, but 2 checkpoints (1073741824.00 GiB) will need" in str(caught.value)
    assert "save_num_checkpoints_to_keep" in caught.value.fix


def test_needs_on_one_disk_add_up(tmp_path):
    half = int(free_bytes(tmp_path) * 0.6)
    assert prove_disk([need(tmp_path, half)]).ok
    with pytest.raises(GateError):
        prove_disk([need(tmp_path / "a", half), need(tmp_path / "b", half, "the export")])


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_every_disk_is_looked_at(tmp_path):
    with pytest.raises(GateError) as caught:
        prove_disk([need(tmp_path, 1 << 60), need(Path("/dev/shm"), 1 << 60, "the export")])
    assert len(caught.value.problems) == 2


def test_a_reserve_is_left(tmp_path):
    with pytest.raises(GateError):
        prove_disk([need(tmp_path, 1)], reserve_bytes=1 << 60)
