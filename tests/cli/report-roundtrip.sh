#!/bin/sh
# report-roundtrip.sh BIN: reports written from a result's JSON are those of the comparison itself,
# byte for byte; report exits with 0 although the result says drift.
set -eu
bin=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
model=fixtures/tiny/ds4-tiny-q4k.gguf

"$bin" run -m $model --engine ref --fixtures short_italian_fact --dump boundary -o "$dir/a.h5"
"$bin" run -m $model --engine ref --set DS4_KV_RAW_F32=1 --fixtures short_italian_fact \
    --dump boundary -o "$dir/b.h5"
status=0
"$bin" compare "$dir/a.h5" "$dir/b.h5" --json "$dir/c.json" --html "$dir/c.html" --csv "$dir/c.csv" \
    --junit "$dir/c.junit" --markdown "$dir/c.markdown" >"$dir/c.text" || status=$?
[ "$status" = 1 ] || { echo "compare: found exit status $status, wanted 1"; exit 1; }

"$bin" report "$dir/c.json" --json "$dir/r.json" --html "$dir/r.html" --csv "$dir/r.csv" \
    --junit "$dir/r.junit" --markdown "$dir/r.markdown" >"$dir/r.text"
for format in json html csv junit markdown text; do
    cmp "$dir/c.$format" "$dir/r.$format"
done
"$bin" report "$dir/c.json" --quiet --csv - | cmp - "$dir/c.csv"
