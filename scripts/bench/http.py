"""What the HTTP server adds to an engine that answers at once.

    python scripts/bench/http.py                     the full table (five minutes on two cores)
    python scripts/bench/http.py --quick --json      fewer requests, one JSON object, under a minute

Every server is a process of its own, with keys, access log (to a file) and metrics on; another process asks it over
kept connections, eight by default. Figures are CPU microseconds of the server's process (all threads, user and system):
of a request that is answered whole, and of an event of a stream (a stream's CPU over its 64 events, so that each event
carries its share of the request). Servers take turns for `--rounds` rounds; the table shows medians.

- bare: an ASGI application that says the same to everybody, on plain uvicorn: what no server on it can do without.
- ours: /v1/completions with 128 token ids, 16 tokens of answer; the engine is an object in the server's process.
- chat: ours, a conversation of some 200 tokens through SmolLM2's chat template and tokenizer.
- link: as ours, the engine in another process behind the Unix socket of `genai serve`; its CPU is beside it. Streams go
  on together, a token each in every step of 2 ms.
- fastapi: a plain FastAPI application for the same requests on the same engine, with uvicorn (uvloop, httptools), a key
  check, a line of JSON and Prometheus counters for each request.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    from web.comparing import main

    main(__doc__)
else:
    # Everything else in this folder means the standard library's package when it imports this name.
    from web.standard import load_http

    load_http(Path(__file__), sys.modules)
