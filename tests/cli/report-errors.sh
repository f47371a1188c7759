#!/bin/sh
# report-errors.sh BIN: what report cannot read is told in one line, with the exit status of its kind,
# and leaves no report behind.
set -eu
bin=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM

# want STATUS TEXT ARGUMENT...: the exit status, and TEXT in the only line of standard error.
want() {
    wanted=$1 text=$2
    shift 2
    status=0
    "$bin" report "$@" --html "$dir/r.html" >"$dir/out" 2>"$dir/err" || status=$?
    if [ "$status" != "$wanted" ] || ! grep -qF -e "$text" "$dir/err" || [ -s "$dir/out" ] ||
        [ -e "$dir/r.html" ] || { [ "$wanted" != 64 ] && [ "$(wc -l <"$dir/err")" != 1 ]; }; then
        echo "report $*: exit status $status, wanted $wanted and: $text"
        cat "$dir/err"
        exit 1
    fi
}

want 64 'give a result file'
want 64 'second result file' "$dir/a.json" "$dir/b.json"
want 74 "$dir/none.json" "$dir/none.json"
want 74 'is a directory' "$dir"
: >"$dir/empty.json"
want 65 'the file is empty' "$dir/empty.json"
echo '{"schema":"ds4-drift/result",' >"$dir/cut.json"
want 65 "$dir/cut.json: found no JSON at line 2" "$dir/cut.json"
echo '{"schema":"ds4-drift/run"}' >"$dir/run.json"
want 65 'schema: found "ds4-drift/run", wanted "ds4-drift/result"' "$dir/run.json"
echo '{"schema":"ds4-drift/result","version":7}' >"$dir/version.json"
want 65 'version: found 7, wanted 1' "$dir/version.json"
want 65 'found no JSON' fixtures/tiny/ds4-tiny-q4k.gguf
