#!/bin/sh
# debian13.sh: the Vulkan tests in a Debian 13 tree with Mesa from its backports, whose llvmpipe offers
# cooperative matrices (`make check-debian13`, which sets PACKAGES; root).
#
# The tree is made once with debootstrap from apt's own mirror, else from deb.debian.org, and kept as
# ${XDG_CACHE_HOME:-/var/cache}/ds4-drift/debian13-KEY; KEY names the packages. It gets its name when it
# is complete. Every run copies the checkout into it and builds from nothing; ccache, which goes by
# content, is all that is kept of a build. Mounts live in a mount namespace of their own, which ends with
# the last process in it, however that one ends; where the system allows none, nothing is mounted.
#
# The last line is "debian13: PASSED ...", "debian13: FAILED ..." or "debian13: SKIPPED ...". Exit status:
# 0 passed or skipped (no root, no debootstrap, no mirror), 1 failed. REQUIRE_GPU=1: a skip is a failure.
set -eu
cd "$(dirname "$0")/.."

# Programs and tests/cli/*.sh that need a Vulkan device and no other compiler.
programs="test_vk test_vk_float test_vk_coop test_vk_probe test_fused test_replay test_group test_kernels test_kernel_suite"
cli="run-batch chunk strict-modules info-device info-orders routes engines-strict engines-shapes vk-import planted-kernel kernels validation variants"
# What this driver is here for, as `ds4-drift info --device` says it.
offers='cooperative_matrix *VK_KHR_cooperative_matrix'

: "${PACKAGES:?is set by make check-debian13}"
suite=trixie
cache=${XDG_CACHE_HOME:-/var/cache}/ds4-drift
key=$(printf '%s\n' "$suite" "$(uname -m)" "$PACKAGES" | sha256sum | cut -c1-12)
tree=$cache/debian13-$key
start_s=$(date +%s)
child='' scratch=''

finish() { # WORD TEXT
    echo "debian13: $1 $2"
    case $1 in
    PASSED) exit 0 ;;
    SKIPPED) [ "${REQUIRE_GPU:-0}" != 1 ] && exit 0 ;;
    esac
    exit 1
}

skip() { finish SKIPPED "$1: nothing was run on the Debian 13 driver"; }

# Removes a folder below the cache, never what is mounted there.
remove() {
    if grep -qF " $1/" /proc/self/mountinfo; then
        echo "debian13: $1 is left: something is mounted in it" >&2
        return 1
    fi
    rm -rf --one-file-system "$1"
}

clean() {
    trap '' INT TERM HUP
    # Its own session: all that it started, with or without a namespace.
    if [ -n "$child" ]; then
        kill -s KILL -- "-$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    fi
    if [ -n "$scratch" ]; then remove "$scratch" || true; fi
}
trap clean EXIT
trap 'exit 1' INT TERM HUP

# The programs that make namespaces ignore an interrupt, so they run behind a wait.
# apart COMMAND...: in a mount and process namespace where that is allowed.
apart() {
    if [ -n "$namespaces" ]; then
        setsid unshare --mount --pid --fork --kill-child --propagation private "$@" &
    else
        setsid "$@" &
    fi
    child=$!
    status=0
    wait "$child" || status=$?
    child=''
    return "$status"
}
namespaces=''
if unshare --mount --pid --fork --propagation private true 2>/dev/null; then namespaces=1; fi
export namespaces

# The last complaint of a log.
complaint() { { grep -E '^(E:|W: Fail|dpkg: error|debootstrap:)' "$1" || cat "$1"; } | tail -n 1; }

# ---- the tree ----

mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        grep -m1 -E '^https?://.*/debian/?$' || echo http://deb.debian.org/debian
}

# make_tree DIR: debootstrap, backports, packages. Runs in a namespace; what it says goes to a log.
make_tree() {
    dir=$1 from=$(mirror)
    proxy=$(apt-config shell p Acquire::http::Proxy)
    eval "$proxy"
    if [ -n "${p-}" ]; then export http_proxy="${http_proxy:-$p}"; fi
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C
    debootstrap --variant=minbase --include=ca-certificates "$suite" "$dir" "$from"
    printf 'deb %s %s main\n' "$from" "$suite" "$from" "$suite-backports" >"$dir/etc/apt/sources.list"
    printf '#!/bin/sh\nexit 101\n' >"$dir/usr/sbin/policy-rc.d" # no service starts
    chmod 755 "$dir/usr/sbin/policy-rc.d"
    if [ -n "${namespaces-}" ]; then mount -t proc proc "$dir/proc" 2>/dev/null || true; fi
    chroot "$dir" apt-get update -q
    # shellcheck disable=SC2086
    chroot "$dir" apt-get install -y -q --no-install-recommends $PACKAGES
    chroot "$dir" apt-get install -y -q --no-install-recommends -t "$suite-backports" mesa-vulkan-drivers
    chroot "$dir" apt-get clean
}

if [ "${1-}" = --make-tree ]; then
    trap - EXIT
    make_tree "$2"
    exit
fi

[ "$(id -u)" = 0 ] || skip "not root"
command -v debootstrap >/dev/null || skip "no debootstrap"
mkdir -p "$cache" 2>/dev/null || skip "$cache cannot be written"

# Shared by runs until they end; making a tree takes it alone.
exec 9>"$cache/debian13.lock"
flock -s 9
made=cached
if [ ! -d "$tree" ]; then flock 9; fi
if [ ! -d "$tree" ]; then
    made=new
    scratch=$tree.partial
    remove "$scratch" || finish FAILED "an earlier tree is in the way"
    mkdir "$scratch"
    log=$cache/debian13.log
    echo "debian13: making $tree"
    apart sh "$0" --make-tree "$scratch" >"$log" 2>&1 || skip "no tree ($(complaint "$log"); all of it in $log)"
    mv -T "$scratch" "$tree"
    scratch=''
fi
flock -s 9
echo "debian13: the tree is $made, $(($(date +%s) - start_s)) s"

# ---- the tests ----

scratch=$(mktemp -d "$tree/run.XXXXXX")
in=/${scratch##*/}
tar -cf - --exclude=./build --exclude=./out --exclude=./.git . | tar -xf - --no-same-owner -C "$scratch"
cat >"$scratch/inside" <<EOS
set -eu
cd "$in"
if [ -n "$namespaces" ]; then mount -t proc proc /proc 2>/dev/null || true; fi
b=build/release
make -j\$(nproc) CC='ccache gcc' all $(for p in $programs; do printf '%s ' "build/release/tests/$p"; done) >make.log 2>&1 || {
    tail -n 40 make.log
    exit 1
}
echo "debian13: built, \$(grep -c . make.log) steps"
\$b/ds4-drift info --device
\$b/ds4-drift info --device | grep -q '$offers' || {
    echo "the driver does not say: $offers"
    exit 1
}
CLI='$cli' sh tests/run.sh \$b/ds4-drift $(for p in $programs; do printf '%s ' "build/release/tests/$p"; done)
EOS
status=0
apart env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 CCACHE_DIR=/var/cache/ccache REQUIRE_GPU=1 \
    chroot "$tree" sh "$in/inside" || status=$?
took=$(($(date +%s) - start_s))
[ "$status" = 0 ] || finish FAILED "exit status $status, $took s"
finish PASSED "$programs $cli, $took s"
