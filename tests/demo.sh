#!/bin/sh
# demo.sh BIN OUT: the main job on the bundled model. Proves that the Vulkan engine's strict rows
# give the reference's bits, plants one numeric variant among harmless fast rows, lets bisect find
# it, and leaves OUT/report.html, .csv and .json. Fails when the planted variant is not named.
set -eu
cd "$(dirname "$0")/.."
bin=$1 out=$2
model=fixtures/tiny/ds4-tiny-q4k.gguf
planted='DS4_KV_RAW_F32@4=1'
mkdir -p "$out"

echo "1. strict rows on the GPU against the scalar reference, every tap of two fixtures"
for engine in ref vk; do
    "$bin" run -m "$model" --engine $engine --plan strict --dump full \
        --fixtures short_italian_fact,short_code_completion -o "$out/$engine-strict.h5"
done
"$bin" compare "$out/ref-strict.h5" "$out/vk-strict.h5"

echo
echo "2. fast rows with one planted variant ($planted): which of all the changes moves the logits?"
cat >"$out/candidate.plan" <<PLAN
# harmless here: other orders of sums and the device's own functions
hc_split=native; hc_write=fma; rope=native; attention=fused; swiglu=native; slot_sum=pair
softmax_pool=online; router_prob=native
# planted: raw key-value rows of layer 4 stay unrounded
$planted
PLAN
status=0
"$bin" bisect -m "$model" --engine vk --plan "$out/candidate.plan" --fixtures short_italian_fact \
    --threshold 1e-4 --evidence full --html "$out/report.html" --csv "$out/report.csv" \
    --json "$out/report.json" >"$out/summary.txt" || status=$?
grep -v '^not exercised' "$out/summary.txt"
if [ "$status" != 1 ] || ! head -n 1 "$out/summary.txt" | grep -q "culprit on short_italian_fact: $planted "; then
    echo "demo: bisect did not name the planted variant $planted (exit $status)" >&2
    exit 1
fi
echo
echo "found the planted variant: $planted"
echo "report: $out/report.html, every number: $out/report.csv"
