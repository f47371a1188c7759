#!/bin/sh
# digests.sh BIN: one hash per tiny model and fixture of the reference engine, all rows strict.
# A commit that changes a line of this output moved the numerics.
set -eu
cd "$(dirname "$0")/.."
if [ $# != 1 ]; then
    echo "usage: digests.sh BIN" >&2
    exit 64
fi
bin=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM

for model in ds4-tiny-q4k ds4-tiny-q2; do
    "$bin" run -m "fixtures/tiny/$model.gguf" --engine ref --plan strict --dump hash \
        -o "$dir/$model.h5" >"$dir/log" 2>&1 || {
        cat "$dir/log" >&2
        exit 1
    }
    "$bin" info --digest "$dir/$model.h5" >"$dir/digest"
    sed "s/^/$model /" "$dir/digest"
done
