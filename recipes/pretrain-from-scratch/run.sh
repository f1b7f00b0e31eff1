#!/usr/bin/env bash
# From text on this machine to a language model trained from nothing, through a bucket: run it where this file lies.
set -euo pipefail
cd "$(dirname "$0")"

RUNS="${RUNS_DIR:-runs}"          # runs go here,
WORK="$RUNS/.from-scratch"        # text and tokenizer here
MEGABYTES="${MEGABYTES:-5}"       # of text; one pass over 5 MB takes less than ten minutes on two cores
VOCABULARY="${VOCABULARY:-16384}"
SEQ_LEN="${SEQ_LEN:-256}"
NPROC="${NPROC:-2}"
mkdir -p "$WORK"

# A bucket on a server of this machine, which is gone when this script ends; or yours: BUCKET=s3://name/folder bash run.sh
if [ -z "${BUCKET:-}" ]; then
    PORT=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    export AWS_ENDPOINT_URL="http://127.0.0.1:$PORT" AWS_ACCESS_KEY_ID=recipe AWS_SECRET_ACCESS_KEY=recipe
    export AWS_DEFAULT_REGION=us-east-1 AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
    python -m moto.server -H 127.0.0.1 -p "$PORT" >"$WORK/server.log" 2>&1 &
    SERVER=$!
    trap 'kill "$SERVER"' EXIT
    until curl --silent --fail --noproxy '*' -X PUT "$AWS_ENDPOINT_URL/pretrain" >/dev/null; do
        kill -0 "$SERVER" || { cat "$WORK/server.log"; echo "pip install 'moto[server]', or set BUCKET"; exit 1; }
        sleep 0.5
    done
    BUCKET=s3://pretrain/docs
fi

[ -d "$WORK/text" ] || python collect.py "$WORK/text" --max-bytes "${MEGABYTES}000000"
[ -d "$WORK/tokenizer" ] || genai data tokenizer "$WORK/text" --vocab-size "$VOCABULARY" --out "$WORK/tokenizer"
genai data convert "$WORK/text" --tokenizer "$WORK/tokenizer" --seq-len "$SEQ_LEN" --split validation=0.05 --out "$BUCKET"
genai data inspect "$BUCKET" --samples 1

genai pretrain 01-pretrain.yaml --nproc "$NPROC" --run-name from-scratch runs_dir="$RUNS" \
    variables.shards="$BUCKET" tokenizer.name="$WORK/tokenizer" max_seq_len="$SEQ_LEN" "$@"
python ngrams.py "$BUCKET" "$RUNS/from-scratch"
