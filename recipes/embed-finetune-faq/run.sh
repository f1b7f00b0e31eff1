#!/usr/bin/env bash
# What tuning an embedding model brings, on three kinds of data: run it where this file lies.
set -euo pipefail
cd "$(dirname "$0")"

RUNS="${RUNS_DIR:-runs}"                    # runs go here,
WORK="$RUNS/.embed-finetune-faq"            # pairs and questions here,
WHEELS="${WHEELS:-$WORK/wheels}"            # and wheels here, which are read and not installed
PINS="${PINS:-wheels.txt}"                  # which wheels
SEEDS="${SEEDS:-1 2 3}"
mkdir -p "$WORK"

SMALL=()                                    # TOY=1 only shows that everything runs
if [ -n "${TOY:-}" ]; then
    SMALL=(max_duration=2ba save_interval=2ba global_train_batch_size=4)
    SMALL+=(data.checks.min_pairs=2 data.checks.min_queries=1)
fi
tune() { local name="$1" file="$2"; shift 2
    genai embed-finetune "$file" --run-name "$name" runs_dir="$RUNS" ${SMALL[@]+"${SMALL[@]}"} "$@"; }

# Questions and answers: a fifth of the answers is held back with all its questions.
tune faq 01-faq.yaml "$@"

# Docstrings of seven packages: the first sentence shall find the rest; whole files are held back, other ones each time.
if [ ! -d "$WHEELS" ]; then
    python -m pip download --quiet --no-deps --require-hashes -r "$PINS" -d "$WHEELS.part"
    mv "$WHEELS.part" "$WHEELS"
fi
[ -f "$WORK/docstrings.jsonl" ] || python pairs.py "$PINS" "$WHEELS" "$WORK/docstrings.jsonl"
for SEED in $SEEDS; do
    tune "docstrings-$SEED" 02-docstrings.yaml variables.pairs="$WORK/docstrings.jsonl" seed="$SEED" "$@"
done

# Answers alone: queries are made of them, without a generator and with a small one. Real questions tell what it brings.
[ -f "$WORK/questions.jsonl" ] || python questions.py "$WORK/questions.jsonl"
MADE=(variables.questions="$WORK/questions.jsonl" ${TOY:+data.synthetic_queries.max_chunks=24})
tune cloze 03-cloze.yaml "${MADE[@]}" "$@"
genai models pull smollm2-135m-instruct
tune generator 04-generator.yaml "${MADE[@]}" ${TOY:+data.synthetic_queries.min_yield=0} "$@" \
    || ENDED=$?
case "${ENDED:-0}" in
    0) ;;
    3) echo "generator: stopped, since too few of its queries were any good" ;;
    *) exit "$ENDED" ;;
esac

DONE=(faq)
for SEED in $SEEDS; do DONE+=("docstrings-$SEED"); done
python summary.py "$RUNS" "${DONE[@]}" cloze generator
