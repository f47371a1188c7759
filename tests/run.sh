#!/bin/sh
# run.sh BIN TEST...: runs every test program, then tests/cli/*.sh (each gets BIN as $1; exit status
# 77 means skipped), then the checks of layers and tables with their self-tests. CLI="NAME...": of the
# scripts those alone, and no check of the source. One line each; the log of what failed is printed in
# full, skips are repeated at the end. Times are reported, nothing depends on them. Exit status 1 when
# anything failed.
set -eu
cd "$(dirname "$0")/.."
if [ $# -lt 1 ]; then
    echo "usage: run.sh BIN TEST..." >&2
    exit 64
fi
bin=$1
shift
# Every Vulkan test runs with the validation layers, whose messages are errors.
export DS4_VALIDATION=1
# No test may pass by what an earlier one compiled.
unset DS4_PIPELINE_CACHE
# Under config=asan: leaks of the Vulkan loader and its drivers are not ours.
export LSAN_OPTIONS="suppressions=$PWD/tests/lsan.supp:print_suppressions=0"

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
: >"$dir/skips"
n_program=0 n_bad=0 n_pass=0 n_fail=0
begin_s=$(date +%s)

# Sum of the counts in lines like "[  PASSED  ] 5 test(s)." or "[  FAILED  ] group: 1 test(s), ...".
count() {
    sed -n "s/^\[  $1 *\] \(.*: \)\{0,1\}\([0-9][0-9]*\) test(s).*/\2/p" "$dir/log" |
        awk '{ n += $1 } END { print n + 0 }'
}

# run NAME KIND COMMAND...: KIND test counts cmocka's tests; any other kind counts as one.
run() {
    name=$1 kind=$2
    shift 2
    start_s=$(date +%s)
    if "$@" >"$dir/log" 2>&1 </dev/null; then status=0; else status=$?; fi
    took=$(($(date +%s) - start_s))
    n_program=$((n_program + 1))
    pass=0 fail=0 note=''
    if [ "$kind" = test ]; then
        pass=$(count PASSED)
        fail=$(count FAILED)
        if [ "$status" != 0 ] && [ "$fail" = 0 ]; then
            fail=1 note=" (exit status $status)"
        elif [ "$status" = 0 ] && [ "$((pass + $(count SKIPPED)))" = 0 ]; then
            fail=1 note=' (no test ran)'
        fi
        grep -hE '^SKIPPED|^\[  SKIPPED \] [^0-9]' "$dir/log" | grep -v 'test(s)' | sort -u |
            sed "s|^|$name: |" >>"$dir/skips" || true
    elif [ "$status" = 0 ]; then
        pass=1
        grep -h '^SKIPPED' "$dir/log" | sort -u | sed "s|^|$name: |" >>"$dir/skips" || true
    elif [ "$status" = 77 ] && [ "$kind" = cli ]; then
        note=' (skipped)'
        reason=$(grep -m1 '^SKIPPED' "$dir/log" || echo SKIPPED)
        echo "$name: $reason" >>"$dir/skips"
    else
        fail=1 note=" (exit status $status)"
    fi
    n_pass=$((n_pass + pass)) n_fail=$((n_fail + fail))
    word=ok
    if [ "$fail" != 0 ] || { [ "$status" != 0 ] && [ "$status" != 77 ]; }; then
        word=FAIL n_bad=$((n_bad + 1))
    fi
    printf '%-4s %-32s %4d passed %3d failed %4d s%s\n' "$word" "$name" "$pass" "$fail" "$took" "$note"
    if [ "$word" = FAIL ]; then
        sed 's/^/    /' "$dir/log"
        bad_names="${bad_names-} $name"
    fi
}

for program; do run "${program##*/}" test "$program"; done
for stem in ${CLI:-$(cd tests/cli && ls -- *.sh)}; do
    stem=${stem%.sh}
    run "cli/$stem" cli sh "tests/cli/$stem.sh" "$bin"
done
checks='check_layers check_tables'
if [ -n "${CLI-}" ]; then checks=''; fi
for check in $checks; do
    run "$check" check sh "tests/$check.sh"
    run "$check --self-test" check sh "tests/$check.sh" --self-test
done

n_skip=$(wc -l <"$dir/skips" | tr -d ' ')
if [ "$n_skip" != 0 ]; then
    echo
    echo "skipped:"
    sed 's/^/    /' "$dir/skips"
fi
echo
echo "$n_program programs, $n_pass passed, $n_fail failed, $n_skip skips, $(($(date +%s) - begin_s)) s"
if [ "$n_bad" != 0 ]; then
    echo "failed:$bad_names"
    exit 1
fi
