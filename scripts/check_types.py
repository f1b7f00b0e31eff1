"""Check the types of `genai` and of `cli`, which mypy must see under the name it is installed as: `genai_cli`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run mypy on both packages; its exit code."""
    search_path = REPOSITORY / ".build" / "types"
    search_path.mkdir(parents=True, exist_ok=True)
    link = search_path / "genai_cli"
    if not link.is_symlink():
        link.symlink_to(os.path.relpath(REPOSITORY / "cli", search_path))
    command = [sys.executable, "-m", "mypy", "-p", "genai", "-p", "genai_cli", *sys.argv[1:]]
    return subprocess.run(command, cwd=REPOSITORY, env={**os.environ, "MYPYPATH": str(search_path)}).returncode


if __name__ == "__main__":
    sys.exit(main())
