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
bench\ *) echo 'decode 90 % of copy'; grep -q '^swiglu=strict' "\$(echo "\$*" | sed 's/.*--a \([^ ]*\).*/\1/')" ;;
run\ *) ;;
compare\ *)
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
last 'PASSED strict kernels model bench on Some GPU$'
grep -q '^kernels --device 1$' "$t/calls" || die "another device"
grep -q '^# ds4-drift on Some GPU$' "$t/report.md" || die "a report without the device"
grep -q 'all passed\.$' "$t/report.md" || die "a report without a verdict"
grep -q '^    decode 90 % of copy$' "$t/report.md" || die "a report without figures"
check 0
last 'PASSED strict kernels bench on Some GPU$'

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
