from __future__ import annotations

import os
from pathlib import Path

import pytest

from genai.errors import DataError, UsageError
from genai.index.engines.states import FILES, States, copy_state, sweep_states
from genai.storage.locks import lock_file


def make_state(states: States, name: str = "a", content: bytes = b"abc") -> str:
    scratch = states.begin()
    (scratch / "deep").mkdir()
    (scratch / "deep" / name).write_bytes(content)
    return states.publish(scratch)


def test_a_state_is_published_under_a_name_of_its_own(tmp_path: Path) -> None:
    states = States(tmp_path, "g1", index="faq")
    one, two = make_state(states), make_state(states)
    assert (one[:7], two[:7]) == ("000001-", "000002-")
    held = states.hold(one)
    assert (held.path / "deep" / "a").read_bytes() == b"abc"
    held.close()
    sweep_states(tmp_path, {"g1": two})
    assert make_state(states)[:7] == "000003-"


def test_names_that_would_leave_the_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be used as a generation"):
        States(tmp_path, "../g1", index="faq")
    with pytest.raises(UsageError, match="cannot be used as a state"):
        States(tmp_path, "g1", index="faq").hold("../../x")


def test_what_a_dead_writer_left_is_swept_and_what_a_live_one_writes_stays(tmp_path: Path) -> None:
    states = States(tmp_path, "g1", index="faq")
    token, live = make_state(states), states.begin()
    dead = live.with_name(live.name.replace(f"-{os.getpid()}-", "-999999999-"))
    dead.mkdir()
    sweep_states(tmp_path, {"g1": token})
    assert live.is_dir()
    assert not dead.exists()


def test_lock_files_of_states_that_are_gone_are_removed(tmp_path: Path) -> None:
    states = States(tmp_path, "g1", index="faq")
    token = make_state(states)
    stray = lock_file(tmp_path / "g1" / "000000-12345678")
    stray.touch()
    held = states.hold(token)
    sweep_states(tmp_path, {})
    assert not stray.exists()
    assert held.path.is_dir()
    held.close()
    sweep_states(tmp_path, {})
    assert list(tmp_path.iterdir()) == []
    sweep_states(tmp_path / "nothing", {})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[1]"])
def test_an_unreadable_list_of_files_is_damage(tmp_path: Path, content: bytes) -> None:
    states = States(tmp_path, "g1", index="faq")
    token = make_state(states)
    (tmp_path / "g1" / token / FILES).write_bytes(content)
    with pytest.raises(DataError, match=rf"damaged: {FILES} cannot be read"):
        states.hold(token)


def test_a_copy_shares_what_is_never_written_again_and_keeps_holes(tmp_path: Path) -> None:
    states = States(tmp_path, "g1", index="faq")
    scratch, target = states.begin(), states.begin()
    (scratch / "deep").mkdir()
    (scratch / "deep" / "shared.dat").write_bytes(b"shared")
    with open(scratch / "sparse.dat", "wb") as stream:
        stream.truncate(64 << 20)
        for place in (1 << 20, 33 << 20):
            stream.seek(place)
            stream.write(b"x" * 5000)
    source = tmp_path / "g1" / states.publish(scratch)
    (source / ".segment.json.tmp").write_bytes(b"of somebody who opens it")
    shared = copy_state(source, target, linked=frozenset({"shared.dat"}))
    assert shared == {target / "deep" / "shared.dat"}
    assert (target / "deep" / "shared.dat").samefile(source / "deep" / "shared.dat")
    assert not (target / "sparse.dat").samefile(source / "sparse.dat")
    assert (target / "sparse.dat").read_bytes() == (source / "sparse.dat").read_bytes()
    assert (target / "sparse.dat").stat().st_blocks * 512 < 1 << 20
    assert sorted(path.name for path in target.iterdir()) == ["deep", "sparse.dat"]


def test_a_copy_to_a_disk_without_links_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    states = States(tmp_path, "g1", index="faq")
    source, target = tmp_path / "g1" / make_state(states, "shared.dat"), states.begin()
    assert copy_state(source, target, linked=frozenset({"shared.dat"})) == frozenset()
    assert (target / "deep" / "shared.dat").read_bytes() == b"abc"
