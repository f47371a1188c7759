#!/bin/sh
# Every numeric variant has an effect where it should, in both engines, and the same bits in strict
# rows of both: a variant is a formula, not a fault.
. tests/cli_lib.sh
need_device
# run OUT OPTION...: one short fixture; ROWS goes before the options.
run() {
    out=$1
    shift
    expect 0 "$bin" run -m "$model" --dump full --fixtures short_italian_fact -o "$t/$out.h5" --fresh "$@"
}

run ref --engine ref
for v in DS4_HC_STABLE=1 DS4_NORM_RSQRT_DISABLE=0 DS4_ROPE_EXP2_LOG2=1 DS4_KV_RAW_F32=1 DS4_STORE_EXACT=1 DS4_ACT_Q8=1; do
    export "${v?}"
    run ref-variant --engine ref
    run vk-variant --engine vk --plan strict
    unset "${v%=*}"
    expect 1 "$bin" compare "$t/ref.h5" "$t/ref-variant.h5"
    says "[$v]"
    expect 0 "$bin" compare "$t/ref-variant.h5" "$t/vk-variant.h5"
    says "same bits"
    expect 0 "$bin" info --facts "$t/ref-variant.h5"
    says "$v"
    says "${v%=*}:environment"
done

# Variants of fast rows: safe math forbids contraction and reassociation; the tensor switch takes the
# f16-staged rows out, and the ledger says which row ran instead and why.
run fast --engine vk --plan fast
run safe --engine vk --plan fast --set DS4_SAFE_MATH=1
expect 1 "$bin" compare "$t/fast.h5" "$t/safe.h5"
says "[DS4_SAFE_MATH=1]"
run untensored --engine vk --plan fast --set DS4_TENSOR_MATMUL_DISABLE=1
expect 1 "$bin" compare "$t/fast.h5" "$t/untensored.h5"
expect 0 "$bin" info --ledger "$t/untensored.h5"
says "refused: DS4_TENSOR_MATMUL_DISABLE is on"
if grep -q ' f16 ' "$t/out"; then die "an f16-staged row ran under DS4_TENSOR_MATMUL_DISABLE"; fi
# The historical name means the same.
export DS4_METAL_KV_RAW_F32=1
run alias --engine ref
unset DS4_METAL_KV_RAW_F32
run named --engine ref --set DS4_KV_RAW_F32=1
expect 0 "$bin" compare --allow-same-rows "$t/alias.h5" "$t/named.h5"
says "same bits"
