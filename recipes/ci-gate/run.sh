#!/usr/bin/env bash
# The gate, tried both ways: an assistant that may go out, and one that may not. Run it where this file lies.
set -euo pipefail
cd "$(dirname "$0")"
port="${PORT:-8080}"

gate() { # NAME [--broken]: exit code of the gate
    python3 assistant.py "$port" "${@:2}" &
    local server=$! code=0
    until python3 -c "import socket; socket.create_connection(('127.0.0.1', $port)).close()" 2>/dev/null; do sleep 0.1; done
    genai eval 01-gate.yaml target.endpoint="http://127.0.0.1:$port/v1" --run-name "$1" || code=$?
    kill "$server"
    wait "$server" 2>/dev/null || true
    return "$code"
}

gate good
echo "exit code 0: it may go out"
code=0
gate broken --broken || code=$?
[ "$code" = 3 ] || { echo "exit code $code in place of 3"; exit 1; }
echo "exit code 3: it may not"
