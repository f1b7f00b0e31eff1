#!/usr/bin/env bash
# Write requirements/*.lock anew: every package with the hashes of all its files, for Linux and macOS, Python 3.11 to 3.13.
# torch is left out, with what only torch needs: its build is chosen by the machine (see TORCH in the Makefile).
#
#   scripts/lock.sh                    keep the locked versions where they still fit pyproject.toml
#   scripts/lock.sh --upgrade          take the newest versions
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet uv
echo "torch ; python_version < '0'" >"$scratch/without-torch.txt"
echo "setuptools>=77" >"$scratch/build.in" # what builds this package, so that installing it needs no other download

lock() { # OUTPUT UV-ARGUMENTS...
    local output=$1
    shift
    "$scratch/venv/bin/uv" pip compile pyproject.toml "$scratch/build.in" \
        --universal --python-version 3.11 --generate-hashes --override "$scratch/without-torch.txt" \
        --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet \
        --output-file "$output" "$@" >/dev/null
    sed -i.bak "1i # Written by scripts/lock.sh; installed with: pip install --no-deps --require-hashes -r $output" "$output"
    rm "$output.bak"
}

lock requirements/quickstart.lock --extra train --extra eval --extra serve "$@"
grep -v '^ *--hash' requirements/quickstart.lock | sed 's/ *\\$//' >"$scratch/quickstart.txt"
lock requirements/dev.lock --constraint "$scratch/quickstart.txt" \
    --extra train --extra datasets --extra s3 --extra gcs --extra azure --extra delta --extra streaming \
    --extra index --extra serve --extra eval --extra lm-eval --extra qdrant --extra lancedb --extra onnx --extra tensorboard --extra dev "$@"
