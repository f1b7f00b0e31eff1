import math
from pathlib import Path

import pytest

from genai.errors import UsageError
from genai.log import get_logger
from genai.tracking.run import RunDirectory


def test_open_makes_the_folder_and_finds_it_again(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path / "runs", "faq-1")
    run.write_result({"loss": 2.5})
    again = RunDirectory.open(tmp_path / "runs", "faq-1")
    assert again.path == tmp_path / "runs" / "faq-1"
    assert again.name == "faq-1"
    assert again.read_result() == {"loss": 2.5}


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "-rf"])
def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        RunDirectory.open(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_written_reads_as_none(run: RunDirectory) -> None:
    assert run.read_config() is None
    assert run.read_overrides() is None
    assert run.read_environment() is None
    assert run.read_inputs() is None
    assert run.read_result() is None


def test_what_was_written_is_read_back(run: RunDirectory) -> None:
    run.write_config("lr: ${variables.lr}\nkey: env:TOKEN\n")
    run.write_overrides(["a=1", "b=x y"])
    run.write_environment({"python": "3.11"})
    run.write_inputs({"model": {"sha256": "ab"}})
    assert run.read_config() == "lr: ${variables.lr}\nkey: env:TOKEN\n"
    assert run.read_overrides() == ["a=1", "b=x y"]
    assert run.read_environment() == {"python": "3.11"}
    assert run.read_inputs() == {"model": {"sha256": "ab"}}


def test_a_loss_that_is_no_number_can_be_a_result(run: RunDirectory) -> None:
    run.write_result({"losses": {"after": math.nan}, "curve": [1.0, math.inf]})
    assert run.read_result() == {"losses": {"after": "NaN"}, "curve": [1.0, "Infinity"]}


def test_what_is_logged_meanwhile_is_kept(run: RunDirectory) -> None:
    logger = get_logger("genai.training")
    logger.warning("before")
    with run.log_to_file():
        logger.warning("batch %d, \N{GREEK SMALL LETTER ETA} half \ud83d", 7)
    with run.log_to_file():
        logger.warning("again")
    logger.warning("after")
    lines = run.log_path.read_text(encoding="utf-8").splitlines()
    assert [line.partition(" WARNING ")[2] for line in lines] == ["batch 7, \N{GREEK SMALL LETTER ETA} half ?", "again"]


def test_the_lock_shows_in_the_status(run: RunDirectory) -> None:
    with run.lock():
        run.set_status("running", "batch 3")
        assert (run.status.status, run.status.message) == ("running", "batch 3")
    assert run.status.status == "died"
    run.set_status("done")
    assert run.status.status == "done"
