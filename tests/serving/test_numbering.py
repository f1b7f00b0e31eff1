"""What the engine is asked has an id that nothing else has."""

from __future__ import annotations

import subprocess
import sys

from genai.serving.numbering import engine_id


def test_the_same_request_id_gives_another_one_each_time() -> None:
    ids = [engine_id("r1") for _ in range(1000)]
    assert len(set(ids)) == len(ids)
    assert all(each.startswith("r1-") for each in ids)


def test_another_process_gives_others() -> None:
    ask = "from genai.serving.numbering import engine_id; print(engine_id('r1'))"
    ids = [subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True) for _ in range(2)]
    assert len({told.stdout for told in ids}) == 2
