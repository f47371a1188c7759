# Shared by the tests of the program; sourced, not run. Sets bin, model, t (scratch, removed at exit).
set -eu
bin=$1
model=fixtures/tiny/ds4-tiny-q4k.gguf
q2=fixtures/tiny/ds4-tiny-q2.gguf
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT

die() {
    echo "FAILED: $*" >&2
    exit 1
}

# expect CODE COMMAND...: output goes to $t/out; any other exit code fails the test.
expect() {
    want=$1
    shift
    got=0
    "$@" >"$t/out" 2>&1 || got=$?
    [ "$got" = "$want" ] || {
        cat "$t/out" >&2
        die "exit $got, wanted $want: $*"
    }
}

# says TEXT: the last output holds it.
says() {
    grep -qF -- "$1" "$t/out" || {
        cat "$t/out" >&2
        die "output without \"$1\""
    }
}

# Skips (77) where no Vulkan device is; with REQUIRE_GPU=1 that is a failure.
need_device() {
    if "$bin" info --device | grep -q '^device 0'; then return 0; fi
    [ "${REQUIRE_GPU:-0}" = 1 ] && die "no Vulkan device"
    echo "SKIPPED: no Vulkan device"
    exit 77
}
