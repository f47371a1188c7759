#!/bin/sh
# How tests/check_gpu.sh decides, on made-up devices: a program stands in for this one that tells of
# devices and answers as it would. Without a discrete one nothing is run and nothing passes; where a step
# fails the check fails and its report says so.
. tests/cli_lib.sh
cat >"$t/stub" <<EOS
#!/bin/sh
echo "\$*" >>"$t/calls"
case "\$1 \$2" in
'info --device') cat "$t/devices" ;;
'info --plans') echo 'fast     a=b; c=d' ;;
'info --coverage') printf 'op x\nadd 1\n' ;;
'model make') : >"$t/flash" ;;
kernels\ *) echo kernels table; exit "\$(cat "$t/kernels")" ;;
bench\ *)
    a=\$(echo "\$*" | sed 's/.*--a \([^ ]*\).*/\1/') b=\$(echo "\$*" | sed 's/.*--b \([^ ]*\).*/\1/')
    if [ "\$a" = fast ]; then
        grep -q '^matmul/prefill=coop_staged' "\$b" || exit 1
        grep -q '^a=b' "\$b" || exit 1
        cat "$t/bench.coop"
    else
        grep -q '^swiglu=strict' "\$a" || exit 1
        cat "$t/bench.fast"
    fi ;;
run\ *) case " \$* " in *' --route '*) exit "\$(cat "$t/routes")" ;; esac ;;
compare\ *)
    case " \$* " in *' --csv '*) for last; do :; done; : >"\$last"; exit 0 ;; esac
    [ "\$2" != "\$3" ] || { echo 'both sides executed the same rows'; exit 2; }
    echo "\$(cat "$t/bits"), 0 different, 0 missing"
    for f in short_italian_fact short_code_completion short_reasoning_plain long_memory_archive long_code_audit; do
        echo "\$f: \$(cat "$t/bits")"
    done ;;
esac
EOS
chmod 755 "$t/stub"
device() { # INDEX TYPE NAME
    printf 'device %s: %s\n  driver\n    device    %s\n    device_type    %s\n' "$1" "$3" "$3" "$2"
}
again() {
    rm -f "$t/flash" "$t/report.md" "$t/calls"
    echo 'same bits' >"$t/bits"
    echo 0 >"$t/kernels"
    echo 0 >"$t/routes"
    said fast 'swiglu strict -> native' 31.0 59.9 '11.02 G/s (x)' 'A of matrix (its rows use no matrix), B of matrix (its rows use no matrix)'
    said coop 'matmul tile -> coop_staged,tile' 60.0 40.1 '11.02 G/s (x)' 'A of matrix (its rows use no matrix), B of matrix'
}
# said STEP ROWS DECODE PREFILL MATRIX OF: what bench prints, in its form; the shares are those of B.
said() {
    cat >"$t/bench.$1" <<EOS
rows that differ in prefill: $2
   2048  prefill   2048      100.00      100.00   1.000  [0.99, 1.01]  [0.99, 1.01]    1.0 %  inside the floor
context  phase      kv bytes  per token             A                B
   2048  prefill      385072   11.540 Mflop        0.150 Gflop/s 99.5 %   0.230 Gflop/s $4 %
   2048  decode       385072    6.381 MB read      0.050 GB/s 99.2 %   0.012 GB/s $3 %
the device at best, copy: 30.59 G/s (buffer to buffer)
the device at best, matrix: $5
% of decode: of copy; % of prefill: $6
EOS
}
# shares LINE...: each stands in the report and was printed.
shares() {
    for line; do
        grep -qxF "    $line" "$t/report.md" || die "the report lacks: $line"
        grep -qxF "check-gpu: $line" "$t/out" || die "not printed: $line"
    done
}
check() { expect "$1" env -u REQUIRE_GPU sh tests/check_gpu.sh "$t/stub" "$t/flash" "$t/report.md"; }
last() { tail -n 1 "$t/out" | grep -q "^check-gpu: $1" || die "the last line is: $(tail -n 1 "$t/out")"; }

# Without one: skipped in words, nothing run, no report; with REQUIRE_GPU=1 a failure.
again
for devices in '' cpu integrated virtual; do
    case $devices in
    '') echo 'no Vulkan device' >"$t/devices" ;;
    *) device 0 $devices 'Some device' >"$t/devices" ;;
    esac
    check 0
    last 'SKIPPED, no device: .*nothing was run$'
    if grep -q PASSED "$t/out"; then die "a skip that passes"; fi
    [ ! -e "$t/report.md" ] || die "a report of nothing"
done
[ "$(sort -u "$t/calls")" = 'info --device' ] || die "something was run: $(sort -u "$t/calls")"
expect 1 env REQUIRE_GPU=1 sh tests/check_gpu.sh "$t/stub" "$t/flash" "$t/report.md"
last 'SKIPPED, no device'

# The first discrete one, whatever stands before it; the model is made once.
{ device 0 cpu llvmpipe && device 1 discrete 'Some GPU' && device 2 discrete 'Another GPU'; } >"$t/devices"
check 0
last 'PASSED strict kernels routes model bench coop on Some GPU$'
grep -q '^kernels --device 1$' "$t/calls" || die "another device"
grep -q '^# ds4-drift on Some GPU$' "$t/report.md" || die "a report without the device"
grep -q 'all passed\.$' "$t/report.md" || die "a report without a verdict"
shares 'bench, decode: 31.0 % of copy, aim 60 %: missed' \
    'bench, prefill of 2048 tokens: 59.9 % of matrix, aim 40 %: reached' \
    'coop, decode: 60.0 % of copy, aim 60 %: reached' \
    'coop, prefill of 2048 tokens: 40.1 % of matrix, aim 40 %: reached'
check 0
last 'PASSED strict kernels routes bench coop on Some GPU$'

# Sums in f16 have a rate of their own. Without a matrix the reason is said and nothing is held against fma;
# without any rate nothing is.
said coop 'matmul tile -> coop_staged_f16acc' 9.0 39.9 '11.02 G/s (x)' 'A of matrix, B of matrix_f16acc'
check 0
shares 'coop, prefill of 2048 tokens: 39.9 % of matrix_f16acc, aim 40 %: missed'
said fast 'swiglu strict -> native' 31.0 59.9 'not measured: the device lacks cooperativeMatrix (x)' 'A of fma, B of fma'
check 0
last 'PASSED strict kernels routes bench on Some GPU$'
shares 'bench, prefill of 2048 tokens: 59.9 % of fma; aim 40 % of matrix: nothing to hold it against' \
    'coop: not run: the device lacks cooperativeMatrix (x)'
echo 'no ceiling measured' >"$t/bench.fast"
check 0
shares 'bench, decode: no share of nothing; aim 60 % of copy: nothing to hold it against' \
    'coop: not run: no rate of matrices in the bench'

# Planted failures: other bits, a kernel out of its bound, a device that strict rows refuse.
again
echo drift >"$t/bits"
check 1
last 'FAILED strict on Some GPU$'
grep -q 'FAILED: strict\.$' "$t/report.md" || die "the report hides the failure"
again
echo 1 >"$t/kernels"
check 1
last 'FAILED kernels on Some GPU$'
again
echo 1 >"$t/routes"
check 1
last 'FAILED routes on Some GPU$'
again
said coop 'matmul tile -> tile,vec' 60.0 40.1 '11.02 G/s (x)' 'A of matrix, B of matrix' # no row ran on it
check 1
last 'FAILED coop on Some GPU$'
grep -q 'lacks "rows that differ in prefill: .*coop_staged"' "$t/out" || die "no reason"
again
device 0 discrete 'Some GPU, unfit: cannot run strict rows: add_nearest (...)' >"$t/devices"
check 1
last 'FAILED device: Some GPU, unfit: cannot run strict rows: add_nearest'
[ ! -e "$t/report.md" ] || die "a report of nothing"

# This machine: what the program says, not what a stub does.
expect 0 env -u REQUIRE_GPU "$bin" info --device
if ! grep -q 'device_type *discrete' "$t/out"; then
    expect 0 env -u REQUIRE_GPU sh tests/check_gpu.sh "$bin" "$t/flash" "$t/report.md"
    last 'SKIPPED, no device'
fi
