"""A stand-in for your assistant, so that the gate can be tried both ways: it looks answers up, and speaks OpenAI's API.

python assistant.py 8080              knows everything
python assistant.py 8080 --broken     a change went wrong: it knows neither prices nor times
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

GOLDEN = Path(__file__).parent / "golden.jsonl"


class Assistant(BaseHTTPRequestHandler):
    """Answers POST /v1/chat/completions."""

    answers: ClassVar[dict[str, str]] = {}

    def do_POST(self) -> None:
        """One answer."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = self.answers.get(body["messages"][-1]["content"], "That I cannot tell.")
        message = {"role": "assistant", "content": said}
        usage = {"prompt_tokens": 20, "completion_tokens": len(said.split())}
        reply = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing of requests."""


class Server(ThreadingHTTPServer):
    """Lets many wait to be answered."""

    request_queue_size = 128


if __name__ == "__main__":
    rows = [json.loads(line) for line in GOLDEN.read_text().splitlines()]
    forgotten = ("price", "time") if "--broken" in sys.argv else ()
    Assistant.answers = {row["prompt"]: row["reference"] for row in rows if row["about"] not in forgotten}
    Server(("127.0.0.1", int(sys.argv[1])), Assistant).serve_forever()
