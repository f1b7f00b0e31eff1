#!/usr/bin/env bash
# From nothing to a fine-tuned model: run it where this file lies.
set -euo pipefail
cd "$(dirname "$0")"

genai models pull smollm2-135m-instruct
genai finetune 01-finetune.yaml runs_dir="${RUNS_DIR:-runs}" "$@"
