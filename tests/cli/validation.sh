#!/bin/sh
# Vulkan validation layers report nothing while strict and fast rows, safe and not, evaluate a
# prompt that reaches every op.
. tests/cli_lib.sh
need_device
run() {
    expect 0 "$bin" run -m "$model" --engine vk --validation --dump logits --tokens "$t/tokens" --decode 2 --fresh \
        -o "$t/run.h5" "$@"
    expect 0 "$bin" info --facts "$t/run.h5"
    says "validation_messages  0"
    grep -q '^validation  *on' "$t/out" || {
        echo "SKIPPED: the validation layers are not installed"
        exit 77
    }
}
head -c 290 fixtures/vectors/oracle/italian_96.tokens | sed 's/[0-9]*$//' >"$t/tokens"
run --plan strict
run --plan fast
run --plan fast --set DS4_SAFE_MATH=1 --set DS4_TENSOR_MATMUL_DISABLE=1 --set DS4_NORM_RSQRT_DISABLE=0
