#!/bin/sh
# The reference's result is bits: one digest per fixture over compilers, optimisation levels, thread
# counts and chunk sizes. Builds gcc -O0, gcc -O2, gcc -O3 -march=native and clang -O2, evaluates
# fixtures in cells of (build, threads, chunk), prints a table, and fails when one cell differs.
#
# The subset that runs by default, chosen so that every build meets a fixture in every cell and every
# cell meets a fixture that selects rows:
#   one short fixture (21 tokens)   every build x threads 1, 2 x chunk 1, 7, 64, all
#   one long fixture (259 tokens)   the same for the builds that optimise; gcc -O0, some five times
#                                   slower, in the cell of threads 2, chunk 64 alone
# BITS_FULL=1 runs every fixture of both tiny models in every cell of every build.
# The four builds stay under build/bits-*; they share one set of SPIR-V modules.
set -eu
cd "$(dirname "$0")/.."
GCC=${GCC:-gcc}
CLANG=${CLANG:-clang}
MAKE=${MAKE:-make}
full=${BITS_FULL:-0}
short=short_italian_fact
long=long_code_audit
every=short_italian_fact,short_code_completion,short_reasoning_plain,long_memory_archive,long_code_audit
all=4096

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM

# build NAME CC OPT. CWARN=-w: what a compiler warns of depends on its level; warnings are errors in the
# ordinary build, bits are what counts here.
build() {
    echo "building $1"
    mkdir -p "build/bits-$1"
    $MAKE --no-print-directory -j2 config=release CC="$2" OPT="$3" B="build/bits-$1" \
        CWARN=-w KERNEL_DIR=build/bits-kernels "build/bits-$1/ds4-drift" >"$dir/log" 2>&1 || {
        cat "$dir/log" >&2
        exit 1
    }
}

# cell BUILD MODEL FIXTURES THREADS CHUNK: appends "model fixture build threads chunk digest" lines.
cell() {
    "build/bits-$1/ds4-drift" run -m "fixtures/tiny/$2.gguf" --engine ref --plan strict --fixtures "$3" \
        --dump hash --threads "$4" --chunk "$5" -o "$dir/run.h5" >"$dir/log" 2>&1 || {
        echo "check_bits: $1, $2, $3, $4 threads, chunk $5: run failed" >&2
        cat "$dir/log" >&2
        exit 1
    }
    "build/bits-$1/ds4-drift" info --digest "$dir/run.h5" >"$dir/digest"
    n=$(wc -l <"$dir/digest")
    if [ "$n" != "$(echo "$3" | tr ',' '\n' | wc -l)" ]; then
        echo "check_bits: $1, $2, $3: $n digests" >&2
        exit 1
    fi
    while read -r fixture digest; do
        echo "$2 $fixture $1 $4 $5 $digest" >>"$dir/cells"
    done <"$dir/digest"
    rm -f "$dir/run.h5"
}

# cells BUILD MODEL FIXTURES: all eight.
cells() {
    for threads in 1 2; do
        for chunk in 1 7 64 "$all"; do cell "$1" "$2" "$3" "$threads" "$chunk"; done
    done
}

# One row per fixture and build, one column per (threads, chunk); a cell that differs from the first
# of its fixture ends in '!'.
table() {
    awk -v all="$all" '
    {
        f = $1 " " $2; col = $4 "/" ($5 == all ? "all" : $5); row = f " " $3
        if (!(f in first)) first[f] = $6
        if (!(row in seen)) { seen[row] = 1; rows[++n_row] = row }
        if (!(col in seen_col)) { seen_col[col] = 1; cols[++n_col] = col }
        n_cell[f]++
        if ($6 != first[f]) { n_bad++; n_bad_of[f]++ }
        text[row, col] = substr($6, 1, 8) ($6 == first[f] ? "" : "!")
    }
    END {
        if (!n_row) { print "no cell ran"; exit 1 }
        printf "%-13s %-22s %-9s", "model", "fixture", "build"
        for (c = 1; c <= n_col; c++) printf " %9s", cols[c]
        print "   (threads/chunk)"
        for (r = 1; r <= n_row; r++) {
            split(rows[r], w, " ")
            printf "%-13s %-22s %-9s", w[1], w[2], w[3]
            for (c = 1; c <= n_col; c++) printf " %9s", ((rows[r], cols[c]) in text) ? text[rows[r], cols[c]] : "."
            print ""
        }
        for (r = 1; r <= n_row; r++) {
            split(rows[r], w, " "); f = w[1] " " w[2]
            if (told[f]++) continue
            printf "%s: %d of %d cells agree on %s\n", f, n_cell[f] - n_bad_of[f], n_cell[f], first[f]
        }
        exit n_bad > 0
    }' "$dir/cells"
}

# The check can fail: one cell of a made-up table differs and is told.
self_test() {
    printf '%s\n' 'm f gcc-O0 1 1 aa' 'm f gcc-O2 1 1 aa' 'm f gcc-O2 2 7 ab' >"$dir/cells"
    if table >"$dir/log"; then
        echo "check_bits: a planted difference was not found" >&2
        exit 1
    fi
    grep -q 'ab!' "$dir/log" || { echo "check_bits: a planted difference is not marked" >&2; exit 1; }
    : >"$dir/cells"
    if table >"$dir/log"; then
        echo "check_bits: an empty table passed" >&2
        exit 1
    fi
}

self_test
build gcc-O0 "$GCC" -O0
build gcc-O2 "$GCC" -O2
build gcc-O3 "$GCC" '-O3 -march=native'
build clang-O2 "$CLANG" -O2

if [ "$full" = 1 ]; then
    for model in ds4-tiny-q4k ds4-tiny-q2; do
        for name in gcc-O3 gcc-O2 clang-O2 gcc-O0; do cells "$name" "$model" "$every"; done
    done
else
    for name in gcc-O3 gcc-O2 clang-O2 gcc-O0; do cells "$name" ds4-tiny-q4k "$short"; done
    for name in gcc-O3 gcc-O2 clang-O2; do cells "$name" ds4-tiny-q4k "$long"; done
    cell gcc-O0 ds4-tiny-q4k "$long" 2 64
fi
table
