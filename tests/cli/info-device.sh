#!/bin/sh
# What is known of the Vulkan device: shown in groups and as JSON, recorded in every run file, and a
# device that is measured to lack what strict rows rely on is refused by the name of that property.
. tests/cli_lib.sh
need_device
run() { "$bin" run -m "$model" --engine vk --dump hash --fixtures short_italian_fact -o "$t/run.h5" --fresh "$@"; }

expect 0 "$bin" info --device
cp "$t/out" "$t/device"
for text in 'device 0: ' '  driver' '  subgroups' '  limits' '  heaps' '    heap.0 ' '    max_workgroup_count ' \
    '    conformance ' '  float controls as the driver tells them' '    float_controls.shaderFloatControls2 ' \
    '  arithmetic as measured' '    float_measured.no_contraction ' '    float_claim.shaderRoundingModeRTEFloat32 ' \
    '    spirv.matmul__strict ' '    pipeline_cache '; do
    says "$text"
done
expect 0 "$bin" info --device --json
says '"unfit": null'
says '"float_measured.add_nearest": "yes"'
expect 64 "$bin" info --taps --json
says "--json goes with --device"

# A run file holds every fact of the device: all that is shown but the rows that did not run.
expect 0 run
expect 0 "$bin" info --facts "$t/run.h5"
awk '/^device 1:/ { exit } /^    / && $1 !~ /^spirv\./ { print $1 }' "$t/device" >"$t/keys"
[ "$(wc -l <"$t/keys")" -gt 60 ] || die "only $(wc -l <"$t/keys") facts"
while read -r key; do
    grep -q "^$key " "$t/out" || die "the run file lacks $key"
done <"$t/keys"

# Planted: the answers of one property are falsified.
export DS4_VK_WRONG=no_contraction
expect 4 run --plan strict
says 'cannot run strict rows: no_contraction ('
says 'needed by every dot product'
expect 0 "$bin" info --device
says 'unfit: '
says 'cannot run strict rows: no_contraction ('
expect 0 "$bin" info --device --json
says '"unfit": "'
# What no strict row relies on is a fact, and the run says that it was falsified.
export DS4_VK_WRONG=denorm_add
expect 0 run --plan strict
expect 0 "$bin" info --facts "$t/run.h5"
grep -q '^float_measured.denorm_add no: ' "$t/out" || die "the fact is not recorded"
says 'falsified            denorm_add'
export DS4_VK_WRONG=none_such
expect 64 run
says 'no float property is called "none_such"'
# A float control that the driver claims and breaks: a warning.
if grep -q 'float_controls.shaderRoundingModeRTEFloat32 *1' "$t/device"; then
    export DS4_VK_WRONG=shaderRoundingModeRTEFloat32
    expect 0 run
    says 'warning: the driver claims shaderRoundingModeRTEFloat32, but add_nearest: no: '
    expect 0 "$bin" info --facts "$t/run.h5"
    says 'broken: add_nearest: no: '
fi
