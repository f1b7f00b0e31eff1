#!/usr/bin/env bash
# From a table of answers to an index that follows it: run it where this file lies.
set -euo pipefail
cd "$(dirname "$0")"

RUNS="${RUNS_DIR:-runs}"          # runs, the table and the index go here
WORK="$RUNS/.index-faq"
mkdir -p "$WORK"

index() { genai index 01-index.yaml runs_dir="$RUNS" indexes_dir="$WORK/indexes" variables.table="$WORK/faq" "$@"; }
ask() { genai index query faq --indexes-dir "$WORK/indexes" "$@"; }

python table.py make "$WORK"      # a Delta table of 503 answers, and a file of questions with what they should find
index "$@"
ask "what does a building permit cost" --k 3
ask "what does a building permit cost" --mode hybrid --k 3 --filter category=bygglov

python table.py change "$WORK"    # three answers are written anew, and nothing else
index "$@"                        # takes over those three
ask "how much is the fee for moving a bird box" --k 1
index "$@"                        # nothing changed: nothing is done

ask --evaluate "$WORK/queries.jsonl"
