#!/bin/sh
# The Vulkan engine's strict rows give the reference's bits at every tap and logit of all fixtures,
# on both models, and the ledgers show that different rows ran.
. tests/cli_lib.sh
need_device
for m in "$model" "$q2"; do
    for engine in ref vk; do
        expect 0 "$bin" run -m "$m" --engine $engine --plan strict --dump hash -o "$t/$engine.h5"
    done
    expect 0 "$bin" compare "$t/ref.h5" "$t/vk.h5"
    says "same bits"
    says "0 different, 0 missing"
    for f in short_italian_fact short_code_completion short_reasoning_plain long_memory_archive long_code_audit; do
        says "$f: same bits"
    done
done
# The same run on both sides is no evidence and cannot pass.
expect 2 "$bin" compare "$t/ref.h5" "$t/ref.h5"
says "both sides executed the same rows"
# Every op of the network executed somewhere.
expect 0 "$bin" info --coverage "$t/vk.h5"
awk 'NR > 1 { for (i = 2; i <= NF; i++) if ($i != "-") next; print "never executed: " $1; bad = 1 } END { exit bad }' "$t/out" ||
    die "an op executes on no fixture"
