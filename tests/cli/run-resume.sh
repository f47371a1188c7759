#!/bin/sh
# A killed run leaves the old file intact and a partial beside it; the next run keeps the finished
# fixtures and ends with the bits of an uninterrupted one. Ctrl-C ends cleanly with a message.
. tests/cli_lib.sh
set -- run -m "$model" --engine ref --dump full --fixtures short_italian_fact,long_code_audit
"$bin" "$@" -o "$t/whole.h5" >/dev/null
"$bin" info --digest "$t/whole.h5" >"$t/whole.txt"

for signal in KILL INT; do
    echo old >"$t/run.h5"
    rm -f "$t/run.h5.partial"
    "$bin" "$@" -o "$t/run.h5" >"$t/log" 2>&1 &
    pid=$!
    # Wait until the first fixture is sealed in the partial file, then stop the run in the second.
    n=0
    until [ -s "$t/run.h5.partial" ] && [ "$(wc -c <"$t/run.h5.partial")" -gt 4000000 ]; do
        sleep 0.05
        n=$((n + 1))
        if [ "$n" -gt 400 ] || ! kill -0 "$pid" 2>/dev/null; then break; fi
    done
    kill -$signal "$pid" 2>/dev/null || true
    status=0
    wait "$pid" || status=$?
    if [ "$status" = 0 ]; then
        echo "the run ended before the signal"
    else
        [ "$(cat "$t/run.h5")" = old ] || die "SIG$signal: the old file is gone"
        [ -e "$t/run.h5.partial" ] || die "SIG$signal: no partial file"
        if [ "$signal" = INT ]; then grep -q interrupted "$t/log" || die "no message: $(cat "$t/log")"; fi
        expect 65 "$bin" info "$t/run.h5.partial"
    fi
    "$bin" "$@" -o "$t/run.h5" >/dev/null
    "$bin" info --digest "$t/run.h5" >"$t/resumed.txt"
    cmp "$t/whole.txt" "$t/resumed.txt" || die "SIG$signal: a resumed run has other bits"
    [ ! -e "$t/run.h5.partial" ] || die "SIG$signal: the partial file stayed"
done
