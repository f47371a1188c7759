#!/bin/sh
# A device that binds little at once, or holds too little for all experts (forced by DS4_VK_LIMITS and
# --device-memory): strict runs equal the reference in every bit, the cost is a fact of the run, and
# what cannot be done is one line that says how much is missing.
. tests/cli_lib.sh
need_device
head -c 290 fixtures/vectors/oracle/italian_96.tokens | sed 's/[0-9]*$//' >"$t/tokens"
run() { # FILE MODEL ENGINE OPTION...
    out=$1 m=$2 engine=$3
    shift 3
    "$bin" run -m "$m" --engine "$engine" --plan strict --dump full --chunk 16 --tokens "$t/tokens" \
        --decode 2 --fresh -o "$out" "$@"
}
# same LIMITS FACT [OPTION...]: the run has the bits of the reference and says FACT.
same() {
    limits=$1 fact=$2
    shift 2
    (export DS4_VK_LIMITS="$limits" && expect 0 run "$t/run.h5" "$m" vk "$@")
    "$bin" info --digest "$t/run.h5" >"$t/run.txt"
    cmp "$t/run.txt" "$t/ref.txt" || die "$m $limits $*: other bits than the reference"
    expect 0 "$bin" info --facts "$t/run.h5"
    says "$fact"
}
for m in "$model" "$q2"; do
    run "$t/ref.h5" "$m" ref >/dev/null
    "$bin" info --digest "$t/ref.h5" >"$t/ref.txt"
    same range=80K "calls_in_parts"
    same heap=8M "experts_streamed"
    same range=80K,heap=10M,stage=20K "staged"
    grep -q '^experts_streamed.* [1-9][0-9]* hits' "$t/out" || die "$m: no expert was used again"
done
same "" "experts_streamed" --device-memory 8M
grep -q '^calls_in_parts' "$t/out" || die "streamed, but not in parts"

# What is asked for in vain.
m=$model
(export DS4_VK_LIMITS=heap=6M && expect 4 run "$t/no.h5" "$m" vk)
says "the device is too small"
says "missing"
expect 4 run "$t/no.h5" "$m" vk --device-memory 7500K
grep -q 'too small: [0-9]* bytes are needed (weights [0-9]*, one expert of many [0-9]*, cached rows [1-9]' "$t/out" ||
    die "not said by part: $(cat "$t/out")"
(export DS4_VK_LIMITS=range=30K && expect 4 run "$t/no.h5" "$m" vk)
says "wanted whole, the device binds at most 30720"
expect 64 run "$t/no.h5" "$m" vk --device-memory lots
says 'found "lots"'
[ ! -e "$t/no.h5" ] || die "a run file of a run that failed"
