#!/bin/sh
# The compiled kernels of this build are bit exact by construction (tests/check_strict.sh).
set -eu
dir=$(dirname "${1:?usage: strict-modules.sh BIN}")/kernels
if [ ! -d "$dir" ]; then
    echo "SKIPPED: strict-modules.sh: this build has no kernels"
    exit 77
fi
if ! command -v spirv-dis >/dev/null; then
    echo "SKIPPED: strict-modules.sh: no spirv-dis"
    exit 77
fi
exec sh tests/check_strict.sh "$dir"
