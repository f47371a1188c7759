#!/bin/sh
# check_gpu.sh BIN MODEL [REPORT.md]: what can be shown only on a discrete GPU with a Vulkan driver
# (`make check-gpu`). There, on the first such device:
#   strict    strict rows give the reference's bits on all fixtures (tests/cli/engines-strict.sh)
#   kernels   every row against its reference, within its bound (ds4-drift kernels)
#   routes    every matmul route alone and all together against strict (tests/check_routes.sh)
#   bench     the fast plan on MODEL, of the real dimensions (ds4-drift bench); side A is the same with one
#             strict row, for bench compares two sides
#   coop      the fast plan with prefill on cooperative matrices against the fast plan, in one bench; where
#             there is no such matrix, the reason
# and, of both benches, decode as a share of the measured copy bandwidth (aim 60 %) and prefill of 2048 tokens
# as a share of the measured rate of matrix products (aim 40 %). A missed aim is said, and fails nothing.
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

# step NAME PATTERN COMMAND...: its output goes to the terminal and to $t/NAME, and must have PATTERN unless that is empty.
failed='' passed=''
step() {
    step=$1 pattern=$2 status=0
    shift 2
    echo "check-gpu: $step: $*"
    "$@" >"$t/$step" 2>&1 || status=$?
    cat "$t/$step"
    if [ "$status" != 0 ]; then
        word="FAILED, exit status $status" failed="$failed $step"
    elif [ -n "$pattern" ] && ! grep -q -e "$pattern" "$t/$step"; then
        word="FAILED, its output lacks \"$pattern\"" failed="$failed $step"
    else
        word=passed passed="$passed $step"
    fi
    echo "check-gpu: $step $word"
    printf '## %s: %s\n\n    %s\n\n' "$step" "$word" "$*" >>"$t/body"
    sed 's/^/    /; s/ *$//' "$t/$step" >>"$t/body"
    echo >>"$t/body"
}

# aim WHAT SHARE CEILING AIM WANTED: a line about SHARE (%, of CEILING), AIM (%) being of WANTED.
aim() {
    case $3 in
    "$5"*) of="of $3, aim $4 %: $(awk -v s="$2" -v a="$4" 'BEGIN { print (s + 0 >= a ? "reached" : "missed") }')" ;;
    *) of="of $3; aim $4 % of $5: nothing to hold it against" ;;
    esac
    echo "$1: ${2:-no share} ${2:+% }$of"
}

# shares STEP: of side B of a bench.
shares() {
    for phase in decode prefill; do
        share=$(awk -v phase="$phase" '$1 == 2048 && $2 == phase && /Mflop|MB read/ && $NF == "%" { print $(NF - 1) }' "$t/$1")
        ceiling=$(sed -n "s/^% of decode: of \\(.*\\); % of prefill: .*, B of \\([^ ]*\\).*/decode \\1\nprefill \\2/p" "$t/$1" |
            sed -n "s/^$phase //p")
        case $phase in
        decode) aim "$1, decode" "$share" "${ceiling:-nothing}" 60 copy ;;
        prefill) aim "$1, prefill of 2048 tokens" "$share" "${ceiling:-nothing}" 40 matrix ;;
        esac
    done
}

# bench STEP PATTERN ARGUMENTS...
bench() {
    name_of=$1 pattern_of=$2
    shift 2
    step "$name_of" "$pattern_of" "$bin" bench -m "$model" --engine vk --device "$index" --frontiers 2048 --chunk 512 \
        --repeats 6 "$@"
    shares "$name_of" >>"$t/shares"
}

step strict '' sh tests/cli/engines-strict.sh "$bin"
step kernels '' "$bin" kernels --device "$index"
step routes '' sh tests/check_routes.sh "$bin" vk
if [ ! -e "$model" ]; then step model '' "$bin" model make --shape flash --quant q4k --share-layers -o "$model"; fi
"$bin" info --plans | awk '$1 == "fast" { sub(/^fast */, ""); print }' | tr ';' '\n' >"$t/fast"
{ cat "$t/fast" && echo 'swiglu=strict'; } >"$t/plan-a"
{ cat "$t/fast" && printf 'matmul/prefill=coop_staged,f16,tile\nmatmul_id/prefill=coop_staged,f16,group,vec\n'; } >"$t/plan-coop"
bench bench '' --a "$t/plan-a" --b fast --decode 32
if grep -q '^the device at best, matrix: [0-9]' "$t/bench"; then
    bench coop 'rows that differ in prefill: .*coop_staged' --a fast --b "$t/plan-coop" --decode 32 --starts 0
else
    reason=$(sed -n 's/^the device at best, matrix: not measured: //p' "$t/bench")
    echo "coop: not run: ${reason:-no rate of matrices in the bench}" >>"$t/shares"
fi
sed 's/^/check-gpu: /' "$t/shares"

if [ -n "$report" ]; then
    {
        echo "# ds4-drift on $name"
        printf '\n%s, commit %s. Made by `make check-gpu`; %s\n\n' "$(date -u '+%Y-%m-%d %H:%M UTC')" \
            "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" "${failed:+FAILED:$failed.}$([ -n "$failed" ] || echo all passed.)"
        printf '## shares of what the device can do at best\n\n'
        sed 's/^/    /' "$t/shares"
        echo
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
