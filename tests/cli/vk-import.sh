#!/bin/sh
# Weights that the device reads where their file is mapped: runs have the bits of the reference whether
# they are imported, copied, imported and bound in parts, or imported until the driver refuses, and the
# fact "weights" counts every byte once.
. tests/cli_lib.sh
need_device
head -c 60 fixtures/vectors/oracle/italian_96.tokens | sed 's/[0-9]*$//' >"$t/tokens"
# digest FILE MODEL ENGINE: the bits of a strict run.
digest() {
    expect 0 "$bin" run -m "$2" --engine "$3" --plan strict --dump full --tokens "$t/tokens" --decode 1 --fresh -o "$1"
    "$bin" info --digest "$1" >"$1.txt"
    "$bin" info --facts "$1" | sed -n 's/^weights  *//p' >"$1.weights"
}
# same LIMITS IMPORT PATTERN: the run has the bits of the reference, and its fact matches PATTERN.
same() {
    (export DS4_VK_LIMITS="$1" DS4_VK_IMPORT="$2" && digest "$t/run.h5" "$m" vk)
    cmp "$t/run.h5.txt" "$t/ref.h5.txt" || die "$m $1 $2: other bits than the reference"
    grep -q "$3" "$t/run.h5.weights" || die "$m $1 $2: weights: $(cat "$t/run.h5.weights"), wanted $3"
}
refused=""
for m in "$model" "$q2"; do
    digest "$t/ref.h5" "$m" ref
    same "" off '^imported 0 bytes, copied [1-9][0-9]* bytes: DS4_VK_IMPORT=off$'
    all=$(sed 's/.*copied \([0-9]*\) .*/\1/' "$t/run.h5.weights")
    same "" on "^imported"
    if grep -q "^imported 0 .*: the driver" "$t/run.h5.weights"; then
        refused=$(cat "$t/run.h5.weights")
        continue
    fi
    grep -q "^imported $all bytes, copied 0 bytes\$" "$t/run.h5.weights" || die "$m: $(cat "$t/run.h5.weights"), wanted all $all"
done
[ -z "$refused" ] || {
    echo "SKIPPED: weights: $refused"
    exit 77
}
# An import that the driver refuses: the rest of the weights is copied, and bound in parts. Not every
# allocation is one.
k=40
until (export DS4_VK_LIMITS=range=80K,fail_alloc=$k DS4_VK_IMPORT=on && digest "$t/run.h5" "$m" vk) 2>/dev/null; do
    k=$((k + 1))
    [ "$k" -lt 50 ] || die "none of ten allocations is an import"
done
same range=80K,fail_alloc=$k on '^imported [1-9][0-9]* bytes, copied [1-9][0-9]* bytes: the driver refused'
n=$(sed 's/imported \([0-9]*\) bytes, copied \([0-9]*\) .*/\1 + \2/' "$t/run.h5.weights")
[ "$(($n))" = "$all" ] || die "imported and copied are $n bytes, wanted $all"
same stage=20K auto '^imported 0 bytes, copied [0-9]* bytes: memory is staged$'

DS4_VK_IMPORT=perhaps expect 64 "$bin" run -m "$m" --engine vk --tokens "$t/tokens" -o "$t/no.h5"
says 'DS4_VK_IMPORT: found "perhaps", wanted auto, on or off'
