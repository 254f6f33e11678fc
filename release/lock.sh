#!/usr/bin/env bash
# Writes the locks: exact versions with hashes. They hold no address of a package index, and serve every system and version of
# Python that the package is for (that for training: Linux on x86-64). `make lock` calls it with the uv of build/release-tools.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${1:-uv}

lock() { # FILE, then what uv takes
  {
    echo "# $1: exact versions with hashes, by \`make lock\`. pip install --require-hashes -r ${1##*/}"
    "$uv" pip compile --quiet --python-version 3.11 --generate-hashes --no-annotate --no-header "${@:2}"
  } >"$1.tmp"
  mv "$1.tmp" "$1"
}

project() { # FILE, its extras, then what uv takes
  local extras
  mapfile -t extras < <(tr , '\n' <<<"$2" | sed 's/^/--extra=/')
  lock "$1" pyproject.toml --constraints constraints.txt "${extras[@]}" "${@:3}"
}

project requirements-serve.lock serve --universal
project requirements-page.lock serve,page --universal
project requirements-train.lock demo,page --python-platform x86_64-manylinux_2_28
lock release/tools.lock release/tools.in --universal
