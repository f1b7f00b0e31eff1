"""Ask the server of 03-serve.yaml one question, as soon as it is ready.

python ask.py http://127.0.0.1:8080 "Do I need a building permit for a deck?"
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request

PATIENCE_S = 300


def wait_until_ready(server: str) -> None:
    """Return when the models are loaded.

    Raises:
        SystemExit: that took too long.
    """
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{server}/readyz", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    raise SystemExit(f"{server} is not ready after {PATIENCE_S} s")


def ask(server: str, question: str) -> str:
    """The answer of the endpoint `assistant`."""
    body = {"model": "assistant", "max_tokens": 96, "temperature": 0}
    body["messages"] = [{"role": "user", "content": question}]
    request = urllib.request.Request(
        f"{server}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
        return str(json.load(reply)["choices"][0]["message"]["content"])


if __name__ == "__main__":
    address, text = sys.argv[1:]
    wait_until_ready(address)
    print(f"\n{text}\n\n{ask(address, text)}")
