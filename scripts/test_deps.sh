#!/usr/bin/env bash
# Install the programs that some tests need, where they are missing. Tests marked `needs` name them.
set -euo pipefail
cd "$(dirname "$0")/.."

# Azurite, the server of the tests of az://, goes into the tests' cache; only machines with Node.js have these tests.
azurite=3.35.0
folder="${GENAI_TEST_CACHE:-.cache/tests}/azurite"
if command -v npm >/dev/null && ! command -v azurite-blob >/dev/null && [ ! -x "$folder/node_modules/.bin/azurite-blob" ]; then
    echo "installing azurite $azurite"
    mkdir -p "$folder"
    npm install --prefix "$folder" --silent --no-audit --no-fund --no-save --ignore-scripts "azurite@$azurite" ||
        echo "azurite cannot be installed from npm: tests of az:// will be skipped, or fail on CI" >&2
fi

missing=()
for program in chromium g++; do # each is also the name of its Debian package
    command -v "$program" >/dev/null || missing+=("$program")
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "tests that need ${missing[*]} will be skipped: install them, or run 'make test-deps' as root on Debian or Ubuntu" >&2
    exit 0
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null; }
install 2>/dev/null || { apt-get update -qq && install; }
