#!/bin/sh
# Strict kernels must be bit exact by construction: every float add, subtract and multiply carries
# NoContraction, and no instruction decides a bit whose rounding the API leaves open (division,
# square root, exponentials, dot products, fused multiply-add). Rows built with -DSAFE, and the kernel
# that measures float arithmetic, must carry NoContraction as well. Usage: check_strict.sh FOLDER_OF_SPV (the build's kernels folder).
set -eu
dir=${1:?usage: check_strict.sh FOLDER_OF_SPV}
# check FILE STRICT: prints offending instructions; fails when there are any.
check() {
    spirv-dis --raw-id "$1" | awk -v file="$1" -v strict="$2" '
        $1 == "OpDecorate" && $3 == "NoContraction" { safe[$2] = 1 }
        $2 == "=" && $3 ~ /^Op(FAdd|FSub|FMul|VectorTimesScalar)$/ && !safe[$1] { bad($0) }
        strict && $3 ~ /^Op(FDiv|FRem|FMod|Dot|Matrix|VectorTimesMatrix|Outer)/ { bad($0) }
        strict && $3 == "OpExtInst" && $6 !~ /^[US](Min|Max|Clamp)$/ { bad($0) }
        function bad(line) { print file ": " line; n++ }
        END { exit n > 0 }'
}

status=0 n=0
for f in "$dir"/*__strict.spv "$dir"/fused__norm_rope.spv "$dir"/fused__kv.spv; do check "$f" 1 || status=1; n=$((n + 1)); done
for f in "$dir"/*.safe.spv "$dir"/probe_float*.spv; do check "$f" 0 || status=1; n=$((n + 1)); done
[ "$n" -gt 24 ] || { echo "$dir: only $n modules"; exit 1; }

# The check can fail: a row built to allow contraction, and one that divides.
for f in "$dir"/matmul__vec.spv "$dir"/hc_split__native.safe.spv; do
    if check "$f" 1 >/dev/null; then echo "$f: the check saw nothing"; status=1; fi
done
[ $status = 0 ] && echo "check_strict: $n modules"
exit $status
