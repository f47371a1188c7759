#!/bin/sh
# check_gpu.sh BIN MODEL [REPORT.md]: what can be shown only on a discrete GPU with a Vulkan driver
# (`make check-gpu`). There, on the first such device:
#   strict    strict rows give the reference's bits on all fixtures (tests/cli/engines-strict.sh)
#   kernels   every row against its reference, within its bound (ds4-drift kernels)
#   bench     on MODEL, of the real dimensions: decode as a share of the measured copy bandwidth, prefill
#             of 2048 tokens as a share of the measured rate of matrix products (ds4-drift bench); side A
#             is the fast plan with one strict row, for bench compares two sides
# MODEL is made when it is missing (5.5 GB). REPORT appears when all is done, whatever failed.
# The last line is "check-gpu: PASSED ...", "check-gpu: FAILED ..." or "check-gpu: SKIPPED, no device ...".
# Exit status: 0 passed or skipped, 1 failed. REQUIRE_GPU=1: a skip is a failure.
set -eu
if [ $# -lt 2 ]; then
    echo "usage: check_gpu.sh BIN MODEL [REPORT.md]" >&2
    exit 64
fi
bin=$1 model=$2 report=${3:-}
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' INT TERM

# "INDEX TYPE NAME[, unfit: WHY]" of every device.
"$bin" info --device >"$t/info"
awk '/^device [0-9]+: / { i = $2; sub(/:.*/, "", i); name = $0; sub(/^device [0-9]+: /, "", name) }
     $1 == "device_type" { print i, $2, name }' "$t/info" >"$t/devices"
chosen=$(grep -m1 '^[0-9]* discrete ' "$t/devices") || {
    echo "check-gpu: SKIPPED, no device: no discrete GPU with a Vulkan driver (found: $(
        cut -d' ' -f2- "$t/devices" | paste -sd';' - | grep . || echo nothing
    )); nothing was run"
    if [ "${REQUIRE_GPU:-0}" = 1 ]; then exit 1; fi
    exit 0
}
index=${chosen%% *}
name=${chosen#* discrete }
echo "check-gpu: device $index, $name"
case $name in
*', unfit: '*)
    echo "check-gpu: FAILED device: $name"
    exit 1
    ;;
esac
export DS4_DEVICE="$index" REQUIRE_GPU=1

# step NAME COMMAND...: its output goes to the terminal and to $t/NAME.
failed='' passed=''
step() {
    step=$1
    shift
    echo "check-gpu: $step: $*"
    if "$@" >"$t/$step" 2>&1; then word=passed passed="$passed $step"; else word="FAILED, exit status $?" failed="$failed $step"; fi
    cat "$t/$step"
    echo "check-gpu: $step $word"
    printf '## %s: %s\n\n    %s\n\n' "$step" "$word" "$*" >>"$t/body"
    sed 's/^/    /; s/ *$//' "$t/$step" >>"$t/body"
    echo >>"$t/body"
}

step strict sh tests/cli/engines-strict.sh "$bin"
step kernels "$bin" kernels --device "$index"
if [ ! -e "$model" ]; then step model "$bin" model make --shape flash --quant q4k --share-layers -o "$model"; fi
"$bin" info --plans | awk '$1 == "fast" { sub(/^fast */, ""); print; print "swiglu=strict" }' | tr ';' '\n' >"$t/plan-a"
step bench "$bin" bench -m "$model" --engine vk --device "$index" --a "$t/plan-a" --b fast \
    --frontiers 2048 --chunk 512 --decode 32 --repeats 6 --json "$t/bench.json"

if [ -n "$report" ]; then
    {
        echo "# ds4-drift on $name"
        printf '\n%s, commit %s. Made by `make check-gpu`; %s\n\n' "$(date -u '+%Y-%m-%d %H:%M UTC')" \
            "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" "${failed:+FAILED:$failed.}$([ -n "$failed" ] || echo all passed.)"
        cat "$t/body"
        printf '## device\n\n'
        awk -v i="$index" '/^device / { on = $2 == i ":" } on { print "    " $0 }' "$t/info"
    } >"$report.partial"
    mv "$report.partial" "$report"
fi
if [ -n "$failed" ]; then
    echo "check-gpu: FAILED$failed on $name"
    exit 1
fi
echo "check-gpu: PASSED$passed on $name"
