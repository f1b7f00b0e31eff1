#!/usr/bin/env bash
# Install the programs that some tests need, where they are missing. Tests marked `needs` name them.
set -euo pipefail

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
