#!/bin/sh
# Seeds of the plans with noise and the oracle engine, from the command line: what a seed fixes, what
# the run file and the ledger say, and what is refused.
. tests/cli_lib.sh
# run OUT OPTION...: one short prompt.
run() {
    out=$1
    shift
    expect 0 "$bin" run -m "$model" --prompt 'Quel ramo del lago' -o "$t/$out.h5" --fresh "$@"
}

# Like says, with a regular expression.
tells() {
    grep -q -- "$1" "$t/out" || {
        cat "$t/out" >&2
        die "output without \"$1\""
    }
}

run strict
for plan in noise-order noise-round; do
    run one --plan $plan --noise-seed 1
    run again --plan $plan --noise-seed 1 --threads 1 --chunk 1
    run two --plan $plan --noise-seed 2
    expect 2 "$bin" compare "$t/one.h5" "$t/again.h5"
    says "same bits, logits rms 0"
    says "both sides executed the same rows"
    expect 1 "$bin" compare "$t/one.h5" "$t/two.h5"
    expect 1 "$bin" compare "$t/strict.h5" "$t/one.h5"
    expect 0 "$bin" info --facts "$t/two.h5"
    tells 'noise_seed *2'
    expect 0 "$bin" info --ledger "$t/one.h5"
    tells 'attn_out *matmul *prefill *\(order\|sround\)'
    tells 'kv_store *row_store *prefill *strict'
done
# A seed that no row looked at is no difference between two runs.
run strict-2 --noise-seed 2
expect 2 "$bin" compare "$t/strict.h5" "$t/strict-2.h5"
says "both sides executed the same rows"

DS4_NOISE_SEED=18446744073709551615
export DS4_NOISE_SEED
run env --plan noise-order
expect 0 "$bin" info --facts "$t/env.h5"
tells 'noise_seed *18446744073709551615'
DS4_NOISE_SEED=-1
expect 64 "$bin" run -m "$model" --prompt a -o "$t/bad.h5"
says 'DS4_NOISE_SEED: found "-1"'
unset DS4_NOISE_SEED
expect 64 "$bin" run -m "$model" --prompt a -o "$t/bad.h5" --noise-seed x
says '--noise-seed: found "x"'
[ ! -e "$t/bad.h5" ]

# The oracle: its own row in the ledger, comparable with any engine; plans of ref alone are refused.
run oracle --engine ref64
expect 1 "$bin" compare "$t/oracle.h5" "$t/strict.h5"
says 'ref64:f64 against ref:strict'
expect 0 "$bin" info --facts "$t/oracle.h5"
tells 'engine *ref64'
tells 'precision *float64'
run oracle-exact --engine ref64 --set DS4_STORE_EXACT=1
expect 1 "$bin" compare "$t/oracle.h5" "$t/oracle-exact.h5"
expect 0 "$bin" info --facts "$t/oracle-exact.h5"
says 'DS4_STORE_EXACT=1'
expect 64 "$bin" run -m "$model" --engine ref64 --plan noise-order --prompt a -o "$t/bad.h5"
says 'engine ref64 has none of the rows of plan "noise-order"'
expect 64 "$bin" run -m "$model" --engine ref32 --prompt a -o "$t/bad.h5"
says 'wanted ref, ref64 or vk'
expect 0 "$bin" info --rows ref64
tells 'attention *f64'
expect 0 "$bin" info --rows ref
tells 'attention *sround'
