#!/bin/sh
# bench: structure of its outputs on a tiny run, refusals and interruption. No figure is looked at;
# what figures are worth is tests/test_bench.c.
. tests/cli_lib.sh
need_device

# Wrong words.
expect 64 "$bin" bench
says "no model"
expect 64 "$bin" bench -m "$model" --frontiers 8,8
says "ascending"
expect 64 "$bin" bench -m "$model" --frontiers geometric:8:0.5:64
says "a step of at least 1"
expect 64 "$bin" bench -m "$model" --repeats 0
says "wanted 1 to 200"
expect 64 "$bin" bench -m "$model" --decode 65 --chunk 64 --starts 0
says "at most the chunk"
expect 64 "$bin" bench -m "$model" --b nonesuch
says "nonesuch"

# The same rows on both sides: the ledger tells, nothing is ranked, no figure is written.
expect 2 "$bin" bench -m "$model" --engine ref --b default --prefill 4 --decode 1 --csv "$t/same.csv"
says "same rows: not a comparison"
[ "$(wc -l <"$t/same.csv")" = 1 ] || die "figures of what is no comparison"
# Rows that differ in one phase leave the other one uncompared; too few blocks give no interval. The
# same bench has the starts and the ceilings of the device.
echo "matmul/decode=vec" >"$t/decode.plan"
expect 3 "$bin" bench -m "$model" --b "$t/decode.plan" --prefill 2,4 --decode 1 --repeats 1 --starts 1 --json "$t/vk.json"
says "too few repeats"
[ "$(grep -c 'prefill .*same rows: not a comparison' "$t/out")" = 2 ] || die "prefill is compared"
says "rows that differ in decode: matmul strict -> vec"
says "the device at best, copy"
says "the device at best, fma"
grep -qE '^warm, our cache .* (warm|cold: the driver keeps nothing)$' "$t/out" || die "what our cache held"
grep -qE '^cold .* cold$' "$t/out" || die "a cold start that is not"
for word in '"plan.b"' '"routes.a"' '"routes.origin.b"' '"profile.b": "none"' '"variants.b"' '"pipeline_cache"' '"driver"' '"kind": "cold"' '"name": "fma"'; do
    grep -qF "$word" "$t/vk.json" || die "vk.json without $word"
done
# The rate of matrices, or why there is none; then a prefill is held against fma.
if grep -q '^the device at best, matrix: not measured: ' "$t/out"; then
    says "% of prefill: A of fma, B of fma"
    grep -qE '^the device at best, matrix: not measured: (left out of this build: |the device |the workgroup )' "$t/out" ||
        die "no reason for no matrix"
    grep -qF '"lacks": "' "$t/vk.json" || die "vk.json without the reason"
else
    grep -qE '^the device at best, matrix: [0-9.]+ G/s' "$t/out" || die "no rate of matrices"
    # Row against row in one command: the ledgers name both, and the share is of the matrices that ran.
    echo "matmul/prefill=tile" >"$t/tile.plan"
    for sum in '' _f16acc; do
        echo "matmul/prefill=coop_staged$sum,tile" >"$t/coop.plan"
        expect 3 "$bin" bench -m "$model" --a "$t/tile.plan" --b "$t/coop.plan" --prefill 16 --decode 1 --repeats 1 --starts 0
        grep -q "^rows that differ in prefill: matmul tile -> .*coop_staged$sum" "$t/out" || die "the rows did not differ"
        grep -qE "% of prefill: A of [a-z]+( \(its rows use no matrix\))?, B of matrix$sum\$" "$t/out" || die "another ceiling"
    done
fi

# What a decoded token reads and multiplies, counted from its calls, against the weights that `model
# info` derives from the file and the rows that 97 tokens leave behind: d = 128, 4 heads, window 32,
# ratios 0 0 4 128 4 128, 16 rows selected of 24, two indexers of 4 heads.
expect 3 "$bin" bench -m "$q2" --engine ref --b compat --prefill 96 --decode 1 --repeats 1 --table "$t/cost.csv"
"$bin" model info "$q2" >"$t/info"
awk -F, -v info="$t/info" '
    BEGIN {
        while ((getline line < info) > 0) {
            n = split(line, w, " ")
            if (line ~ /^weights read/) bytes = w[n - 1]
            if (line ~ /^multiply-adds/) macs = w[n]
            if (line ~ /^file/) tensors = w[n - 1]
            if (line ~ /^F32/) vectors = w[n - 1]
        }
        rows = 6 * 32 + 2 * 16
        index_rows = 2 * 24
        macs += 2 * rows * 4 * 128 + index_rows * 4 * 128
        lookups = 3 * 2 * 4 + 2 * (256 + 256) * 2 + 2 * 128 * 2 # hash tables and positions, not counted
        bytes += (rows + index_rows) * 128 * 4 - vectors - lookups
    }
    $2 == "decode" { found = 1; if ($19 != bytes || $20 != 2 * macs) { print "found " $19 ", " $20 "; wanted " bytes ", " 2 * macs; exit 1 } }
    # Three batches (64 tokens, up to the first selection, the rest): each reads an expert once at most.
    $2 == "prefill" && 96 * $19 > 3 * tensors { print "prefill reads " 96 * $19 ", the file has " tensors; exit 1 }
    END { if (!found) exit 1 }' "$t/cost.csv" || die "what a token reads and multiplies"

# A whole bench.
expect 0 "$bin" bench -m "$q2" --engine ref --b compat --frontiers linear:2:2:4 --decode 1 --repeats 6 \
    --csv "$t/b.csv" --csv-a "$t/a.csv" --table "$t/table.csv" --json "$t/b.json"
says "A = strict, B = compat"
says "the first pair was a warm-up and is discarded"
says "starts: this engine makes no pipelines"
for f in a b; do
    [ "$(head -n1 "$t/$f.csv")" = "ctx_tokens,prefill_tokens,prefill_tps,gen_tokens,gen_tps,kvcache_bytes" ] ||
        die "columns of $f.csv"
    grep -qE '^2,2,[0-9]+\.[0-9]{2},1,[0-9]+\.[0-9]{2},[1-9][0-9]*$' "$t/$f.csv" || die "first line of $f.csv"
    grep -qE '^4,2,[0-9]+\.[0-9]{2},1,[0-9]+\.[0-9]{2},[1-9][0-9]*$' "$t/$f.csv" || die "second line of $f.csv"
    [ "$(wc -l <"$t/$f.csv")" = 3 ] || die "lines of $f.csv"
done
[ "$(wc -l <"$t/table.csv")" = 5 ] || die "lines of table.csv"
awk -F, 'NF != 20 { exit 1 }' "$t/table.csv" || die "columns of table.csv"
for word in '"format": "ds4-drift/bench"' '"plan.a"' '"plan.b"' '"model.digest"' '"partial": false' \
    '"blocks": 6' '"energy_j"' '"load.before"'; do
    grep -qF "$word" "$t/b.json" || die "b.json without $word"
done

# Two files: rates are not ranked, ratios are where their intervals share nothing.
expect 0 "$bin" bench --compare "$t/table.csv" "$t/table.csv"
says "inside the intervals: not ranked"
head=ctx_tokens,phase,tokens,a_tps,b_tps,a_spread,b_spread,ratio,ratio_lo,ratio_hi,aa_ratio,aa_lo,aa_hi,coverage,blocks,floor,verdict,rest
printf '%s\n64,decode,16,10,20,0,0,2.0,1.9,2.1,1,1,1,0.95,6,0.01,faster,x\n' $head >"$t/old.csv"
printf '%s\n64,decode,16,30,45,0,0,1.5,1.4,1.6,1,1,1,0.95,6,0.01,faster,x\n' $head >"$t/new.csv"
expect 0 "$bin" bench --compare "$t/old.csv" "$t/new.csv"
says "+125.0 %"
says "B slower against A than before"
expect 0 "$bin" bench --compare "$t/a.csv" "$t/b.csv"
says "no ratio with an interval in a file: not ranked"
expect 2 "$bin" bench --compare "$t/old.csv" "$t/table.csv"
says "no frontier in common"
printf '%s\n64,decode,16,30,fast,0,0,1.5,1.4,1.6,1,1,1,0.95,6,0.01,faster,x\n' $head >"$t/new.csv"
expect 65 "$bin" bench --compare "$t/old.csv" "$t/new.csv"
says 'new.csv, line 2: found "fast", wanted a number'
printf '%s\n1e300,decode,16,30,45,0,0,1.5,1.4,1.6,1,1,1,0.95,6,0.01,faster,x\n' $head >"$t/new.csv"
expect 65 "$bin" bench --compare "$t/old.csv" "$t/new.csv"
says 'new.csv, line 2: found "1e300", wanted a number of tokens'
# The interval of too few repeats ranks nothing.
printf '%s\n64,decode,16,30,45,0,0,1.5,1.5,1.5,1,1,1,0.5,1,0.01,x,x\n' $head >"$t/new.csv"
expect 0 "$bin" bench --compare "$t/old.csv" "$t/new.csv"
says "no ratio with an interval in a file: not ranked"
# Nor does a ratio of the same rows.
printf '%s\n64,decode,16,30,45,0,0,1.5,1.4,1.6,1,1,1,0.95,6,0.01,same rows: not a comparison,x\n' $head >"$t/new.csv"
expect 0 "$bin" bench --compare "$t/old.csv" "$t/new.csv"
says "no ratio with an interval in a file: not ranked"
expect 64 "$bin" bench --compare "$t/old.csv"

# A file that cannot be written is one clear error, before anything is measured: with the same rows
# on both sides the measured answer would be 2, without a model 74 for that.
expect 74 "$bin" bench -m "$t/none.gguf" --engine ref --csv "$t/none/b.csv"
says "none/b.csv"
expect 74 "$bin" bench -m "$model" --engine ref --b default --prefill 2 --decode 1 --json "$t"
says "a folder, wanted a file"
[ ! -e "$t.partial" ] || die "a part is left behind"

# Stopped: what was finished is printed as partial. A stop that came before the first block has nothing
# to print; then it comes later, until one finds blocks. It is not sent before it is caught.
catches() {
    mask=$(sed -n 's/^SigCgt:.*\(.\)$/\1/p' "/proc/$pid/status")
    [ $((0x${mask:-0} & 2)) != 0 ]
}
delay=1 got=74
while [ $got = 74 ]; do
    [ $delay -le 256 ] || die "no block was finished"
    "$bin" bench -m "$model" --engine ref --b compat --prefill 64 --decode 1 --repeats 200 --json "$t/part.json" >"$t/out" 2>&1 &
    pid=$!
    until catches; do
        kill -0 "$pid" || die "it ended before it could be stopped: $(cat "$t/out")"
        sleep 0.1
    done
    sleep $delay
    kill -INT "$pid"
    got=0
    wait "$pid" || got=$?
    if [ $got = 74 ]; then
        says "stopped before a block"
        [ ! -e "$t/part.json" ] || die "a file of nothing"
    fi
    delay=$((2 * delay))
done
[ $got = 3 ] || die "exit $got after an interruption"
says "partial: stopped"
grep -qF '"partial": true' "$t/part.json" || die "part.json does not say partial"
