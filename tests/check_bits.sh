#!/bin/sh
# check_bits.sh [--quick|--same|--self-test] BIN
#
# The reference's result is bits: one digest per fixture over compilers, optimisation levels, SIMD
# paths, thread counts, chunkings and CPUs. Prints a table and fails when one cell of it differs.
#
#   builds   gcc and clang at -O0, -O2 and -O3 -march=native; aarch64 by gcc at -O2 and -O3 and by clang
#            at -O2, cross-built and run under qemu-aarch64; and BIN, the program itself
#   paths    scalar and every SIMD path of a build that its CPU runs; the others are listed as not run
#   threads  1, 2, 4        chunks  1, 7, 64, all
#
# Which cells run, for both tiny models (BITS_FULL=1: every fixture in every cell of every build):
#   a short fixture (21 tokens): every build, path, thread count and chunking; under qemu four cells on
#   the second model
#   a long one (259 tokens: rows of the cache are selected, leave the window and are compressed 128 to
#   1): the same for builds that optimise; -O0, some five times slower, in two cells of each path; qemu,
#   some twenty times slower, in one, on the second model at gcc -O2 alone
# Two cells of each fixture come from BIN, so that the table speaks of the program that users run.
#
# --quick: gcc -O0, gcc -O3 -march=native and clang -O2 on the short fixture.
# --same: builds nothing; the digests of the program bits beside BIN, on every path, are those of BIN's
#   run files, and differ where BIN runs another formula (a part of `make test`).
# --self-test: the table marks planted differences; nothing is built or run.
# Both full and quick rounds end with a real difference: a build with contraction on must be found and its first
# differing tap named. The builds stay under build/bits-*. Settings: GCC, CLANG, MAKE, BITS_JOBS.
set -eu
cd "$(dirname "$0")/.."
GCC=${GCC:-gcc}
CLANG=${CLANG:-clang}
MAKE=${MAKE:-make}
n_job=${BITS_JOBS:-$(nproc)}
short=short_italian_fact
long=long_code_audit
first=ds4-tiny-q4k
second=ds4-tiny-q2
models="$first $second"
all=4096
list=fixtures/fixtures.json
# A variant or a path in the environment would move every cell.
for v in $(env | sed -n 's/^\(DS4_[A-Za-z0-9_]*\)=.*/\1/p'); do unset "$v"; done

die() {
    echo "check_bits: $*" >&2
    exit 1
}

# ---- builds: name, compiler, flags ----

builds() {
    if [ "$mode" = quick ]; then
        echo "gcc-O0|$GCC|-O0"
        echo "gcc-O3-native|$GCC|-O3 -march=native"
        echo "clang-O2|$CLANG|-O2"
        return
    fi
    for c in "gcc|$GCC" "clang|$CLANG"; do
        echo "${c%%|*}-O0|${c#*|}|-O0"
        echo "${c%%|*}-O2|${c#*|}|-O2"
        echo "${c%%|*}-O3-native|${c#*|}|-O3 -march=native"
    done
    if [ "$(uname -m)" = aarch64 ]; then return; fi
    echo "a64-gcc-O2|aarch64-linux-gnu-gcc|-O2"
    echo "a64-gcc-O3|aarch64-linux-gnu-gcc|-O3"
    echo "a64-clang-O2|$CLANG --target=aarch64-linux-gnu|-O2"
}

# build NAME CC FLAGS: tests/bits.c and the engine without Vulkan, anew when the compiler, the flags or
# the CPU changed. CWARN=-w: what a compiler warns of depends on its level; warnings are errors in the
# ordinary build, bits are what counts here.
build() {
    b=build/bits-$1
    cpu=$(grep -m1 -E '^(flags|Features)' /proc/cpuinfo | cksum)
    # shellcheck disable=SC2086 # a compiler may come with an option
    stamp="$($2 --version | head -n 1) $3 $cpu"
    if [ "$(cat "$b/stamp" 2>/dev/null)" != "$stamp" ]; then rm -rf "$b"; fi
    mkdir -p "$b"
    echo "$stamp" >"$b/stamp"
    $MAKE --no-print-directory -j"$n_job" config=release VULKAN=0 CC="$2" OPT="$3 -ffunction-sections" B="$b" CWARN=-w \
        PC_CFLAGS= PC_LIBS= "$b/tests/bits" >"$dir/log" 2>&1 || {
        grep -v '^  [A-Z]' "$dir/log" >&2
        die "$1: cannot be built"
    }
}

# bits BUILD ARGUMENT...: runs the program of a build.
bits() {
    case $1 in
    program) bits_run=${bin%/*}/tests/bits ;;
    a64-*) bits_run="qemu-aarch64 -L /usr/aarch64-linux-gnu build/bits-$1/tests/bits" ;;
    *) bits_run=build/bits-$1/tests/bits ;;
    esac
    shift
    $bits_run "$@"
}

# The fixture ID as bits takes it: ID:DECODE:plain|chat:PROMPT_FILE.
fixture() {
    awk -F'"' -v id="$1" -v dir="${list%/*}" '
        $2 == "id" { found = $4 == id }
        found && $2 == "prompt" { prompt = $4 }
        found && $2 == "chat" { chat = $3 ~ /true/ ? "chat" : "plain" }
        found && $2 == "decode" { decode = $3; gsub(/[^0-9]/, "", decode) }
        END {
            if (prompt == "" || chat == "" || decode == "") exit 1
            print id ":" decode ":" chat ":" dir "/" prompt
        }' "$list" || die "$list: fixture $1 cannot be read"
}

# ---- jobs: number, weight, build, model, path, threads, chunks, fixtures ----

job() { echo "$((n = n + 1)) $*" >>"$dir/jobs"; }

# The cells of one build and path on both models.
plan() {
    for model in $models; do
        if [ "${BITS_FULL:-0}" = 1 ]; then
            job 9 "$1" "$model" "$2" 1,2,4 "1,7,64,$all" "$every"
            continue
        fi
        case $1-$model in
        a64-*"$second") job 2 "$1" "$model" "$2" 1,4 "7,$all" "$short" ;;
        a64-*) job 3 "$1" "$model" "$2" 1,2,4 "1,7,64,$all" "$short" ;;
        *) job 1 "$1" "$model" "$2" 1,2,4 "1,7,64,$all" "$short" ;;
        esac
        if [ "$mode" = quick ]; then continue; fi
        case $1-$model in
        a64-gcc-O2-* | a64-*"$first") job 5 "$1" "$model" "$2" 2 64 "$long" ;;
        a64-*) ;;
        *-O0-*) job 2 "$1" "$model" "$2" 2 "7,$all" "$long" ;;
        *) job 4 "$1" "$model" "$2" 1,2,4 "1,7,64,$all" "$long" ;;
        esac
    done
}

count() { echo "$1" | tr ',' '\n' | wc -l; }

# run_job DIR NUMBER WEIGHT BUILD MODEL PATH THREADS CHUNKS FIXTURES: writes DIR/cells.NUMBER, lines of
# "build model fixture path threads chunk digest", and insists on their count.
run_job() {
    dir=$1 n=$2 build=$4 model=$5 path=$6 threads=$7 chunks=$8 names=$9
    args=$(for f in $(echo "$names" | tr ',' ' '); do fixture "$f"; done)
    # shellcheck disable=SC2086 # a list
    bits "$build" --paths "$path" --threads "$threads" --chunks "$chunks" "fixtures/tiny/$model.gguf" \
        $args >"$dir/out.$n" 2>"$dir/log.$n" || {
        cat "$dir/log.$n" >&2
        die "$build, $model, path $path: failed"
    }
    wanted=$(($(count "$threads") * $(count "$chunks") * $(count "$names")))
    sed "s/^/$build /" "$dir/out.$n" >"$dir/cells.$n"
    found=$(wc -l <"$dir/cells.$n")
    [ "$found" = "$wanted" ] || die "$build, $model, path $path: $found cells, wanted $wanted"
}

# run_program MODEL FIXTURES THREADS CHUNK: the same from the program itself, by its own run file.
run_program() {
    "$bin" run -m "fixtures/tiny/$1.gguf" --engine ref --plan strict --fixtures "$2" --dump hash --threads "$3" \
        --chunk "$4" -o "$dir/run.h5" >"$dir/log" 2>&1 || {
        cat "$dir/log" >&2
        die "$bin: run failed"
    }
    path=$("$bin" info --facts "$dir/run.h5" | awk '$1 == "simd" { print $2 }')
    [ -n "$path" ] || die "$bin: the run file does not tell its SIMD path"
    "$bin" info --digest "$dir/run.h5" >"$dir/digest"
    [ "$(wc -l <"$dir/digest")" = "$(count "$2")" ] || die "$bin: digests are missing"
    while read -r f digest; do echo "ds4-drift $1 $f $path $3 $4 $digest"; done <"$dir/digest"
    rm -f "$dir/run.h5"
}

# ---- the table ----

# table CELLS LACKS BAD: per fixture its value, then one row per build and path, one column per
# threads/chunk: "=" the value, "." no such cell, else the head of what was found and "!". Cells that
# differ go to BAD, each with the first cell of its fixture before it.
table() {
    : >"$3"
    awk -v all="$all" -v lacks="$2" -v bad="$3" '
    {
        f = $2 " " $3; row = f " " $1 " " $4; col = $5 "/" ($6 == all ? "all" : $6)
        if (!(f in value)) { value[f] = $7; first[f] = $1 " " $4 " " $5 " " $6; fixtures[++n_f] = f }
        if (!(row in seen)) { seen[row] = 1; rows[f, ++n_row[f]] = row; label[row] = $1 " " $4 }
        if (!((f, col) in seen_col)) { seen_col[f, col] = 1; cols[f, ++n_col[f]] = col }
        n_cell[f]++; n++
        text[row, col] = "="
        if ($7 != value[f]) {
            text[row, col] = substr($7, 1, 6) "!"
            n_bad[f]++; n_all_bad++
            print f, first[f], $1, $4, $5, $6 >bad
        }
    }
    # By threads, then by chunk, all last.
    function place(col,  w) { split(col, w, "/"); return w[1] * 100000 + (w[2] == "all" ? 99999 : w[2]) }
    function sort_cols(f,  i, j, t) {
        for (i = 2; i <= n_col[f]; i++)
            for (j = i; j > 1 && place(cols[f, j]) < place(cols[f, j - 1]); j--) {
                t = cols[f, j]; cols[f, j] = cols[f, j - 1]; cols[f, j - 1] = t
            }
    }
    END {
        if (!n) { print "no cell ran"; exit 1 }
        while ((getline line <lacks) > 0) {
            split(line, w, " ")
            if (!(w[2] in builds)) missing[++n_missing] = w[2]
            builds[w[2]] = builds[w[2]] " " w[1]
        }
        for (i = 1; i <= n_f; i++) {
            f = fixtures[i]; sort_cols(f)
            printf "%s  %s\n%-15s %-7s", f, value[f], "build", "path"
            for (c = 1; c <= n_col[f]; c++) printf " %7s", cols[f, c]
            print "  threads/chunk"
            for (r = 1; r <= n_row[f]; r++) {
                row = rows[f, r]; split(label[row], w, " ")
                printf "%-15s %-7s", w[1], w[2]
                for (c = 1; c <= n_col[f]; c++)
                    printf " %7s", ((row, cols[f, c]) in text) ? text[row, cols[f, c]] : "."
                print ""
            }
            for (m = 1; m <= n_missing; m++)
                printf "%-15s %-7s not run, the CPU lacks it:%s\n", "(no row)", missing[m], builds[missing[m]]
            printf "%d of %d cells agree\n\n", n_cell[f] - n_bad[f], n_cell[f]
        }
        for (i = 1; i <= n_f; i++) {
            f = fixtures[i]
            printf "%-36s %s  %d of %d cells\n", f, value[f], n_cell[f] - n_bad[f], n_cell[f]
        }
        for (m = 1; m <= n_missing; m++) printf "not run: path %s, the CPU lacks it\n", missing[m]
        printf "%d of %d cells agree\n", n - n_all_bad, n
        exit n_all_bad > 0
    }' "$1"
}

# taps MODEL FIXTURE BUILD PATH THREADS CHUNK: one line per tap.
taps() {
    bits "$3" --taps --paths "$4" --threads "$5" --chunks "$6" "fixtures/tiny/$1.gguf" "$(fixture "$2")" |
        sed '$d'
}

# explain BAD: names the first tap that differs, for one cell of each of the first six rows.
explain() {
    awk '!seen[$1, $2, $7, $8]++' "$1" | head -n 6 | while read -r model f b1 p1 t1 c1 b2 p2 t2 c2; do
        where="see ds4-drift compare"
        if [ "$b1" != ds4-drift ] && [ "$b2" != ds4-drift ]; then
            taps "$model" "$f" "$b1" "$p1" "$t1" "$c1" >"$dir/taps.1"
            taps "$model" "$f" "$b2" "$p2" "$t2" "$c2" >"$dir/taps.2"
            where=$(diff "$dir/taps.1" "$dir/taps.2" | sed -n 's/^> \([^ ]*\) \([^ ]*\) .*/\2, layer \1/p' | head -n 1)
        fi
        echo "$model $f: $b2 $p2 $t2/$c2 against $b1 $p1 $t1/$c1: first different tap ${where:-none}"
    done
}

# The table marks what differs and refuses to be empty.
self_test() {
    printf '%s\n' 'gcc-O0 m f scalar 1 1 aa' 'gcc-O2 m f avx2 1 1 aa' 'gcc-O2 m f avx2 2 7 ab' >"$dir/made"
    echo 'gcc-O2 avx9' >"$dir/lacks.made"
    if table "$dir/made" "$dir/lacks.made" "$dir/bad" >"$dir/log"; then die "a planted difference was not found"; fi
    grep -q 'ab!' "$dir/log" || die "a planted difference is not marked"
    grep -q 'avx9.*not run' "$dir/log" || die "a path that did not run is not told"
    grep -q '^2 of 3 cells agree$' "$dir/log" || die "cells are not counted"
    [ "$(cat "$dir/bad")" = "m f gcc-O0 scalar 1 1 gcc-O2 avx2 2 7" ] || die "a different cell is not named"
    sed -i '$d' "$dir/made"
    table "$dir/made" "$dir/lacks.made" "$dir/bad" >"$dir/log" || die "equal cells fail"
    : >"$dir/made"
    if table "$dir/made" "$dir/lacks.made" "$dir/bad" >"$dir/log"; then die "an empty table passed"; fi
}

# A real difference: products and sums contracted, or, on a CPU that cannot, reassociated.
plant() {
    flags='-O3 -march=native -ffp-contract=fast'
    case $($GCC -march=native -dM -E -x c /dev/null) in
    *__FMA__* | *__ARM_FEATURE_FMA*) ;;
    *) flags='-O3 -march=native -ffast-math' ;;
    esac
    build planted "$GCC" "$flags"
    model=$first
    grep " $model $short " "$dir/cells" | head -n 1 >"$dir/planted"
    bits planted --paths scalar --chunks 7 "fixtures/tiny/$model.gguf" "$(fixture "$short")" |
        sed 's/^/planted /' >>"$dir/planted"
    if table "$dir/planted" /dev/null "$dir/bad.planted" >"$dir/log"; then die "gcc $flags gives the same bits"; fi
    grep -q '^planted .*!' "$dir/log" || die "gcc $flags is not marked"
    explain "$dir/bad.planted" >"$dir/log"
    grep -q 'first different tap .*, layer' "$dir/log" || die "gcc $flags: no tap is named"
    echo "planted: gcc $flags is found: $(sed 's/.*first/first/' "$dir/log")"
}

# Both framings of a prompt; the long fixture on one model alone, to stay within seconds.
same_fixtures() {
    echo "$short,short_reasoning_plain$(if [ "$1" = "$first" ]; then echo ",$long"; fi)"
}

# The program and bits tell the same digests; with another formula they do not.
same() {
    bits program --list | while read -r path what; do
        for model in $models; do
            if [ "$what" = runs ]; then
                run_job "$dir" "$path.$model" 1 program "$model" "$path" 2 7 "$(same_fixtures "$model")"
            fi
        done
    done
    cat "$dir"/cells.* >"$dir/cells"
    for model in $models; do run_program "$model" "$(same_fixtures "$model")" 1 64 >>"$dir/cells"; done
    table "$dir/cells" /dev/null "$dir/bad" || die "the table speaks of another engine than $bin"
    (DS4_KV_RAW_F32=1 && export DS4_KV_RAW_F32 && run_program "$first" "$short" 1 64) >>"$dir/cells"
    if table "$dir/cells" /dev/null "$dir/bad" >"$dir/log"; then die "another formula gives the same digest"; fi
}

# ---- main ----

if [ "${1-}" = --job ]; then
    shift
    run_job "$@"
    exit 0
fi
mode=full
case ${1-} in
--quick | --same | --self-test) mode=${1#--} && shift ;;
esac
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
self_test
if [ "$mode" = self-test ]; then
    echo "check_bits: planted differences found"
    exit 0
fi
if [ $# != 1 ]; then
    echo "usage: check_bits.sh [--quick|--same|--self-test] BIN" >&2
    exit 64
fi
bin=$1
if [ "$mode" = same ]; then
    same
    exit 0
fi
every=$(awk -F'"' '$2 == "id" { print $4 }' "$list" | paste -sd, -)
program=$short,$long
if [ "${BITS_FULL:-0}" = 1 ]; then program=$every; fi
if [ "$mode" = quick ]; then program=$short; fi

: >"$dir/jobs" && : >"$dir/lacks"
n=0
builds >"$dir/builds"
while IFS='|' read -r name cc flags; do
    echo "building $name: $cc $flags"
    build "$name" "$cc" "$flags"
    bits "$name" --list >"$dir/paths" || die "$name: does not run"
    while read -r path what; do
        if [ "$what" = runs ]; then plan "$name" "$path"; else echo "$name $path" >>"$dir/lacks"; fi
    done <"$dir/paths"
done <"$dir/builds"
# Heavy jobs first, so that none is left alone at the end.
sort -k2,2nr -k1,1n "$dir/jobs" | xargs -P "$n_job" -L 1 sh "$0" --job "$dir" || die "a cell failed"
for i in $(seq 1 "$n"); do cat "$dir/cells.$i"; done >"$dir/cells"
for model in $models; do
    run_program "$model" "$program" 1 7 >>"$dir/cells"
    run_program "$model" "$program" 2 64 >>"$dir/cells"
done
echo
status=0
table "$dir/cells" "$dir/lacks" "$dir/bad" || status=1
explain "$dir/bad"
plant
exit $status
