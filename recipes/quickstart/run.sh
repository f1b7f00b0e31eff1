#!/usr/bin/env bash
# From nothing to a fine-tuned model that is proven better, and answers: run it where this file lies.
set -euo pipefail
cd "$(dirname "$0")"
runs="${RUNS_DIR:-runs}"
port="${PORT:-$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}"

genai models pull smollm2-135m-instruct
genai finetune 01-finetune.yaml --run-name quickstart runs_dir="$runs" "$@"

# A gate that does not hold ends with exit code 3, and this script here.
genai eval 02-eval.yaml runs_dir="$runs"
genai models promote construction-faq --require-eval quickstart-eval --runs-dir "$runs"

genai serve 03-serve.yaml --quiet runs_dir="$runs" listen.port="$port" &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" || true' EXIT
python3 ask.py "http://127.0.0.1:$port" "Do I need a building permit for a deck?"
