#!/bin/sh
# A device that is lost, hangs or runs out of memory (forced by DS4_VK_LIMITS) ends a run with one
# line, exit status 4 and a partial file; the next run keeps its finished fixtures and ends with the
# bits of an uninterrupted one. Limits that are none are refused.
. tests/cli_lib.sh
need_device
run() {
    "$bin" run -m "$model" --engine vk --dump boundary \
        --fixtures short_italian_fact,short_code_completion -o "$1"
}
run "$t/whole.h5" >/dev/null
"$bin" info --digest "$t/whole.h5" >"$t/whole.txt"

# fails LIMITS TEXT PARTIAL [resume]: a run under LIMITS says TEXT in its one line. PARTIAL: "none", "begun", or
# "kept" where the first fixture is finished. resume: goes on with it.
fails() {
    rm -f "$t/run.h5.partial"
    echo old >"$t/run.h5"
    (export DS4_VK_LIMITS="$1" && expect 4 run "$t/run.h5")
    says "$2"
    [ "$(wc -l <"$t/out")" = 1 ] || die "$1: more than one line: $(cat "$t/out")"
    [ "$(cat "$t/run.h5")" = old ] || die "$1: the old file is gone"
    if [ "$3" = none ]; then
        [ ! -e "$t/run.h5.partial" ] || die "$1: a partial file before anything ran"
        return
    fi
    expect 65 "$bin" info "$t/run.h5.partial"
    says "marked 'partial "
    size=$(wc -c <"$t/run.h5.partial")
    if [ "$3" = kept ]; then [ "$size" -gt 300000 ] || die "$1: $size bytes, nothing is kept"; fi
    [ "${4-}" = resume ] || return 0
    expect 0 run "$t/run.h5"
    "$bin" info --digest "$t/run.h5" >"$t/resumed.txt"
    cmp "$t/whole.txt" "$t/resumed.txt" || die "$1: a resumed run has other bits"
    [ ! -e "$t/run.h5.partial" ] || die "$1: the partial file stayed"
}
fails fail_submit=1 "the device was lost" none # while its arithmetic is measured
fails fail_submit=5 "the device was lost" begun
fails fail_submit=30 "the device was lost" kept resume
fails fail_wait=30 "the device was lost" kept
fails hang_wait=1 "has not finished" none
fails hang_wait=5 "has not finished" begun
fails hang_wait=30,timeout=7 "within 7 s" kept resume
fails fail_alloc=1 "the device is out of memory" none
(export DS4_VK_IMPORT=off && fails fail_alloc=100 "the device is out of memory" none) # a weight
fails fail_alloc=200 "the device is out of memory" begun # the first session
fails fail_alloc=300 "the device is out of memory" kept

# Any other command ends as clearly.
expect 4 env DS4_VK_LIMITS=fail_submit=3 "$bin" bisect -m "$model" --engine vk --plan fast \
    --fixtures short_italian_fact
says "the device was lost"

for wrong in "no limit is called \"rang\":rang=1" "wanted range=N:range=0" "wanted heap=N:heap" \
    "wanted timeout=N:timeout=2s" "given twice:heap=1M,heap=1M" "ends in a comma:heap=1M,"; do
    (export DS4_VK_LIMITS="${wrong##*:}" && expect 64 run "$t/run.h5")
    says "${wrong%:*}"
done
rm -f "$t/run.h5.partial"
DS4_VK_LIMITS=timeout=500 run "$t/run.h5" >/dev/null
expect 0 "$bin" info --facts "$t/run.h5"
says "timeout=500"
