#!/bin/sh
# `run --batch` evaluates fixtures together: under strict rows every tap and logit is that of a run
# of one fixture after the other, on both engines, with more and fewer lanes than fixtures.
. tests/cli_lib.sh
need_device
digests() { "$bin" info --digest "$1" | sed 's/^[^ ]*\.h5//' | LC_ALL=C sort; }
# same ENGINE FIXTURES LANES: runs one by one and together hold the same digests.
same() {
    expect 0 "$bin" run -m "$model" --engine "$1" --plan strict --dump hash --fixtures "$2" -o "$t/one.h5" --fresh
    expect 0 "$bin" run -m "$model" --engine "$1" --plan strict --dump hash --fixtures "$2" --batch "$3" \
        -o "$t/many.h5" --fresh
    expect 0 "$bin" info --facts "$t/many.h5"
    grep -q "^batch  *$3\$" "$t/out" || die "the run file does not say how many fixtures ran at once"
    digests "$t/one.h5" >"$t/one"
    digests "$t/many.h5" | cmp - "$t/one" || die "$1: other digests with --batch $3"
}
all=short_italian_fact,short_code_completion,short_reasoning_plain,long_memory_archive,long_code_audit
same vk short_italian_fact,short_code_completion,short_reasoning_plain 2
# Submissions are counted, and some were replayed.
grep -q '^submissions  *[0-9]* recorded, [1-9][0-9]* replayed$' "$t/out" || die "no count of submissions"
same ref $all 64
same ref $all 3
[ "$(wc -l <"$t/one")" -ge 5 ] || die "only $(wc -l <"$t/one") digests"
# The check can fail: other rows, other digests.
expect 0 "$bin" run -m "$model" --engine ref --plan compat --dump hash --batch 3 -o "$t/other.h5"
if digests "$t/other.h5" | cmp -s - "$t/one"; then die "compat rows with the digests of strict ones"; fi
# What cannot be: no lanes, a session file of several fixtures, rows with noise.
expect 64 "$bin" run -m "$model" --engine ref --batch 0 -o "$t/x.h5"
says "--batch: found 0, wanted 1 to 256"
expect 64 "$bin" run -m "$model" --engine ref --batch 2 --save-session "$t/s" --fixtures short_code_completion -o "$t/x.h5"
says "a session file with 2 fixtures at once"
expect 64 "$bin" run -m "$model" --engine ref --plan noise-order --batch 2 -o "$t/x.h5"
says "a plan with noise in a group"
[ ! -e "$t/x.h5" ] || die "a run that failed left a file"
