"""Where the limits of this process's control groups stand, for both versions of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the process's cgroup and of all above it, the innermost first; some may not be there.

    Args:
        root: where `proc` and `sys` lie.
        controller: `cpu` or `memory`. Version 2 has one folder for all controllers, version 1 one for each; which it
            is, the files in it tell.
    """
    file = root / "proc/self/cgroup"
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        # In a container the path may be the host's, of which only the mount's top can be seen.
        folder = mount / path.lstrip("/")
        for place in (folder, *folder.parents):
            yield place
            if place == mount:
                break
