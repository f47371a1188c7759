#!/bin/sh
# Shapes that the fixtures do not have: strict rows of both engines give the same bits, with f32
# activations and with int8 ones (DS4_ACT_Q8), which move the first projection by a block format.
. tests/cli_lib.sh
need_device
awk 'BEGIN { for (i = 0; i < 26; i++) print (97 * i * i + 31 * i + 5) % 288 }' >"$t/tokens"
# check OPTION...: a model made with these.
check() {
    expect 0 "$bin" model make -o "$t/m.gguf" --layers 4 --vocab 288 --o-rank 32 "$@"
    for act in 0 1; do
        for engine in ref vk; do
            expect 0 "$bin" run -m "$t/m.gguf" --engine $engine --plan strict --dump hash --fresh \
                --tokens "$t/tokens" --set DS4_ACT_Q8=$act -o "$t/$engine$act.h5"
        done
        expect 0 "$bin" compare "$t/ref$act.h5" "$t/vk$act.h5"
        says "same bits"
    done
    expect 1 "$bin" compare "$t/ref0.h5" "$t/ref1.h5"
    says "drift: first at layer 0, tap q_low (op matmul, strict against strict[DS4_ACT_Q8=1])"
}
check --quant iq2 --heads 16 --groups 1 --head-width 66 --rotary 2 --q-rank 32 --window 5 --top-k 3 \
    --experts 5 --used 5 --ratios 0,0,4,8
check --quant q4k-iq2 --heads 3 --groups 3 --rotary 128 --q-rank 96 --window 9 --top-k 5 --idx-heads 3 \
    --experts 7 --used 3 --ratios 3,4,1,4 --clamp 1,0,0.5,2
