#!/bin/sh
# Tables: no file without a row, no row without its files, no unknown name in a row.
#
#   engine/ops/ops.def      an op has engine/ops/<op>.c, fixtures/ops/<op>.cases with at least one
#                           case, struct ds4_args_<op>, a kernel row, and none of these is without an op
#   kernels/kernels.def     a row has its op and its .comp; the first row of an op is strict, EXACT and
#                           NONE; a wider bound has a cause; a .comp has a row
#   kernels/probes.def      a row has its .comp
#   kernels/fused.def, engine/fusions.def    a fused row has its .comp, a case in fixtures/fused.cases, members
#                           whose ops exist and whose bounds have causes, and a group of calls of just
#                           these ops; a group has its fused row
#   engine/format/quants.def, reports/writers.def    a row has its file
#   engine/taps.def         the op of a call exists
#   engine/variants.def     what a variant touches exists
#   every file              no open markers, no paths of the machine it was written on; C and GLSL
#                           files have at most 800 lines
#
# One line per violation, file:line: what, and exit status 1. `check_tables.sh --self-test` plants one
# violation of every rule in a copy of the tree and fails unless each is found. CC: any C compiler,
# its preprocessor expands the tables.
set -eu
cd "$(dirname "$0")/.."
CC=${CC:-cc}

# Spelled in two parts, so that this file passes its own check.
marker="TO""DO|FIX""ME"
place="/wo""rk/|/tmp/bash_""jobs"

# expand TABLE 'MACRO(arguments) WORDS'...: the rows as words.
expand() {
    table=$1
    shift
    {
        for macro; do echo "#define $macro"; done
        echo "#include \"$table\""
    } | $CC -E -P -undef -x c -I. - | sed '/^[[:space:]]*$/d'
}

# bad FILE PATTERN WHAT: prints a violation at the first line of FILE with PATTERN, else at line 1.
bad() {
    line=$(grep -nE -m1 -e "$2" "$1" 2>/dev/null | cut -d: -f1) || true
    echo "$1:${line:-1}: $3"
}

has_word() {
    case " $2 " in *" $1 "*) return 0 ;; esac
    return 1
}

check_ops() {
    for op in $ops; do
        row="^OP\(${op}[,[:space:]]"
        for f in "engine/ops/$op.c" "fixtures/ops/$op.cases"; do
            [ -f "$f" ] || bad engine/ops/ops.def "$row" "op $op has no $f"
        done
        if [ -f "fixtures/ops/$op.cases" ] && ! grep -qE '^[[:space:]]*[^#[:space:]]' "fixtures/ops/$op.cases"; then
            echo "fixtures/ops/$op.cases:1: no case"
        fi
        grep -qE "^struct ds4_args_${op}([[:space:]{]|\$)" kernels/args.h ||
            bad engine/ops/ops.def "$row" "op $op has no struct ds4_args_$op in kernels/args.h"
        has_word "$op" "$kernel_ops" || bad engine/ops/ops.def "$row" "op $op has no row in kernels/kernels.def"
    done
    for f in engine/ops/*.c; do
        stem=${f##*/} stem=${stem%.c}
        [ "$stem" = ops ] || has_word "$stem" "$ops" || echo "$f:1: no op $stem in engine/ops/ops.def"
    done
    for f in fixtures/ops/*; do
        stem=${f##*/} stem=${stem%.cases}
        has_word "$stem" "$ops" || echo "$f:1: no op $stem in engine/ops/ops.def"
    done
    sed -n 's/^struct ds4_args_\([a-z0-9_]*\).*/\1/p' kernels/args.h | while read -r args; do
        has_word "$args" "$ops" ||
            bad kernels/args.h "^struct ds4_args_${args}[[:space:]{]" "no op $args in engine/ops/ops.def"
    done
}

check_kernels() {
    seen='' rows='' sources=''
    while read -r op name source bound cause; do
        row="^KERNEL\($op,[[:space:]]*${name}[,[:space:]]"
        has_word "$op" "$ops" || bad kernels/kernels.def "$row" "row $name of an op that is not in ops.def: $op"
        [ -f "kernels/$source.comp" ] || bad kernels/kernels.def "$row" "${op}__$name has no kernels/$source.comp"
        if has_word "${op}__$name" "$rows"; then bad kernels/kernels.def "$row" "${op}__$name twice"; fi
        if ! has_word "$op" "$seen" && [ "$name" != strict ]; then
            bad kernels/kernels.def "$row" "the first row of $op is $name, not strict"
        fi
        if [ "$name" = strict ] && [ "$bound $cause" != "EXACT NONE" ]; then
            bad kernels/kernels.def "$row" "${op}__strict has bound $bound, cause $cause: wanted EXACT, NONE"
        fi
        if [ "$bound" != EXACT ] && [ "$cause" = NONE ]; then
            bad kernels/kernels.def "$row" "${op}__$name has bound $bound without a cause"
        fi
        seen="$seen $op" rows="$rows ${op}__$name" sources="$sources $source"
    done <"$dir/kernels"
    while read -r name source; do
        [ -f "kernels/probe_$source.comp" ] ||
            bad kernels/probes.def "^PROBE\(${name}[,[:space:]]" "probe $name has no kernels/probe_$source.comp"
        sources="$sources probe_$source"
    done <"$dir/probes"
    sources="$sources $(sed -n 's/^F [^ ]* //p' "$dir/fused" | tr '\n' ' ')"
    for f in kernels/*.comp; do
        stem=${f##*/} stem=${stem%.comp}
        has_word "$stem" "$sources" || echo "$f:1: no row in kernels/kernels.def"
    done
}

# ops_between FIRST LAST: the ops of the calls of taps.def from one to the other, in a line.
ops_between() {
    awk -v first="$1" -v last="$2" '$1 == first { on = 1 } on { printf "%s ", $2 } $1 == last { exit }' "$dir/taps"
}

check_fused() {
    fused=' '
    while read -r kind name source n bound cause; do
        if [ "$kind" = F ]; then
            fused="$fused$name "
            row="^FUSED\($name,"
            [ -f "kernels/$source.comp" ] || bad kernels/fused.def "$row" "$name has no kernels/$source.comp"
            grep -q "^$name " fixtures/fused.cases 2>/dev/null ||
                bad kernels/fused.def "$row" "$name has no case in fixtures/fused.cases"
            grep -q "^$name " "$dir/fusions" || bad kernels/fused.def "$row" "$name has no group in engine/fusions.def"
            continue
        fi
        row="^MEMBER\($name,[[:space:]]*$source,"
        has_word "$source" "$ops" || bad kernels/fused.def "$row" "a member of $name is no op: $source"
        has_word "$name" "$fused" || bad kernels/fused.def "$row" "a member of no fused row: $name"
        if [ "$bound" != EXACT ] && [ "$cause" = NONE ]; then
            bad kernels/fused.def "$row" "$name, $source has bound $bound without a cause"
        fi
    done <"$dir/fused"
    while read -r name first last; do
        row="^FUSION\($name,[[:space:]]*$first,"
        has_word "$name" "$fused" || bad engine/fusions.def "$row" "$name is no row of kernels/fused.def"
        want=$(awk -v name="$name" '$1 == "M" && $2 == name { for (i = 0; i < $4; i++) printf "%s ", $3 }' "$dir/fused")
        if [ "$(ops_between "$first" "$last")" != "$want" ]; then
            bad engine/fusions.def "$row" "$first to $last are not the members of $name"
        fi
    done <"$dir/fusions"
}

check_formats() {
    files=''
    while read -r name file; do
        [ -f "engine/format/$file.c" ] ||
            bad engine/format/quants.def "^QUANT\(${name}[,[:space:]]" "$name has no engine/format/$file.c"
        grep -qE "ds4_${file}_decode" "engine/format/$file.c" 2>/dev/null || [ ! -f "engine/format/$file.c" ] ||
            echo "engine/format/$file.c:1: no ds4_${file}_decode"
        files="$files $file"
    done <"$dir/quants"
    for f in engine/format/*.c; do
        stem=${f##*/} stem=${stem%.c}
        if grep -q "ds4_${stem}_decode" "$f" && ! has_word "$stem" "$files"; then
            echo "$f:1: a decoder without a row in engine/format/quants.def"
        fi
    done
    while read -r name; do
        [ -f "reports/$name.c" ] || bad reports/writers.def "^WRITER\(${name}[,[:space:]]" "$name has no reports/$name.c"
    done <"$dir/writers"
}

check_names() {
    taps=''
    while read -r tap op; do
        has_word "$op" "$ops" || bad engine/taps.def "^TAP\(${tap}[,[:space:]]" "tap $tap calls no op of ops.def: $op"
        taps="$taps $tap"
    done <"$dir/taps"
    while read -r name touches; do
        for touched in $(echo "$touches" | tr -d '"' | tr '|' ' '); do
            case $touched in
            op:*) has_word "${touched#op:}" "$ops" && continue ;;
            tap:*) has_word "${touched#tap:}" "$taps" && continue ;;
            rows:fast | rows:tensor | weights:blocks) continue ;;
            esac
            bad engine/variants.def "^VARIANT\(${name}[,[:space:]]" "variant $name touches nothing known: $touched"
        done
    done <"$dir/variants"
}

# Every file that is, or could be, committed; without git every file outside build and out.
list_files() {
    if [ -e .git ] && command -v git >/dev/null 2>&1; then
        git ls-files -co --exclude-standard
    else
        find . -type f ! -path './build/*' ! -path './out/*' ! -path './.git/*' | sed 's|^\./||'
    fi | while IFS= read -r f; do if [ -f "$f" ]; then printf '%s\n' "$f"; fi; done
}

check_files() {
    list_files >"$dir/files"
    tr '\n' '\0' <"$dir/files" | xargs -0 grep -nIwEo -e "$marker" /dev/null | sed 's/:\([^:]*\)$/: open marker \1/' || true
    tr '\n' '\0' <"$dir/files" | xargs -0 grep -naEo -e "$place" /dev/null |
        sed 's/:\([^:]*\)$/: a path of one machine: \1/' || true
    grep -E '\.(c|h|comp|glsl)$' "$dir/files" | while IFS= read -r f; do
        n=$(wc -l <"$f" | tr -d ' ')
        [ "$n" -le 800 ] || echo "$f:801: $n lines, 800 at most"
    done
}

check() {
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    trap 'exit 1' INT TERM
    expand engine/ops/ops.def 'OP(op, ...) op' >"$dir/ops"
    expand kernels/kernels.def \
        'KERNEL(op, name, source, flags, lx, ly, px, py, needs, mt, bound, cause, ...) op name source bound cause' \
        >"$dir/kernels"
    expand kernels/probes.def 'PROBE(name, source, ...) name source' >"$dir/probes"
    expand kernels/float_probes.def 'FLOAT_PROBE(name, ...) float float' | head -n 1 >>"$dir/probes"
    expand kernels/fused.def 'FUSED(name, source, ...) F name source' \
        'MEMBER(name, op, n, bound, cause, ...) M name op n bound cause' >"$dir/fused"
    expand engine/fusions.def 'FUSION(name, first, last) name first last' >"$dir/fusions"
    expand engine/format/quants.def 'QUANT(name, id, text, elems, bytes, file) name file' >"$dir/quants"
    expand engine/taps.def 'TAP(name, op, ...) name op' >"$dir/taps"
    expand engine/variants.def 'VARIANT(name, env, alias, touches, ...) name touches' >"$dir/variants"
    expand reports/writers.def 'WRITER(name, ...) name' >"$dir/writers"
    for table in ops kernels probes fused fusions quants taps variants writers; do
        if [ ! -s "$dir/$table" ]; then
            echo "check_tables: table $table has no rows that this check can read" >&2
            exit 1
        fi
    done
    ops=$(tr '\n' ' ' <"$dir/ops")
    kernel_ops=$(cut -d' ' -f1 "$dir/kernels" | tr '\n' ' ')
    {
        check_ops
        check_kernels
        check_fused
        check_formats
        check_names
        check_files
    } >"$dir/found"
    cat "$dir/found"
    if [ -s "$dir/found" ]; then return 1; fi
}

# want FILE WHAT: the next round must print a line of FILE that contains WHAT.
want() {
    n_plant=$((n_plant + 1))
    printf '%s\t%s\n' "$1" "$2" >>"$copy/wanted"
}

# edit FILE SED: changes a file of the copy, and insists that it did change.
edit() {
    sed "$2" "$tree/$1" >"$copy/edited"
    if cmp -s "$copy/edited" "$tree/$1"; then
        echo "check_tables --self-test: nothing to plant in $1: $2" >&2
        n_miss=$((n_miss + 1))
    fi
    cp "$copy/edited" "$tree/$1"
}

# round: the check of the copy must fail with every wanted line; then the copy is made whole again.
round() {
    if (cd "$tree" && sh tests/check_tables.sh) >"$copy/out"; then status=0; else status=$?; fi
    if [ "$status" != 1 ]; then
        echo "check_tables --self-test: exit status $status with planted violations" >&2
        n_miss=$((n_miss + 1))
    fi
    while IFS="$(printf '\t')" read -r file what; do
        if ! grep -E "^$file:[0-9]+: " "$copy/out" | grep -qF -e "$what"; then
            echo "check_tables --self-test: not found: $file: $what" >&2
            n_miss=$((n_miss + 1))
        fi
    done <"$copy/wanted"
    rm -rf "$tree"
    cp -R "$copy/whole" "$tree"
    : >"$copy/wanted"
}

self_test() {
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    trap 'exit 1' INT TERM
    mkdir -p "$copy/whole/fixtures" "$copy/whole/tests" "$copy/whole/drift"
    cp -R engine kernels reports "$copy/whole"
    cp -R fixtures/ops fixtures/fused.cases "$copy/whole/fixtures"
    cp tests/check_tables.sh "$copy/whole/tests"
    cp -R "$copy/whole" "$copy/tree"
    : >"$copy/wanted"
    n_plant=0 n_miss=0
    tree=$copy/tree

    : >"$tree/kernels/planted.comp"
    want kernels/planted.comp 'no row'
    rm "$tree/kernels/add.comp"
    want kernels/kernels.def 'no kernels/add.comp'
    rm "$tree/kernels/probe_read.comp"
    want kernels/probes.def 'no kernels/probe_read.comp'
    rm "$tree/engine/ops/add.c"
    want engine/ops/ops.def 'no engine/ops/add.c'
    : >"$tree/engine/ops/planted.c"
    want engine/ops/planted.c 'no op planted'
    rm "$tree/fixtures/ops/add.cases"
    want engine/ops/ops.def 'no fixtures/ops/add.cases'
    : >"$tree/fixtures/ops/planted.cases"
    want fixtures/ops/planted.cases 'no op planted'
    edit kernels/args.h 's/^struct ds4_args_add {/struct ds4_args_plus {/'
    want engine/ops/ops.def 'no struct ds4_args_add'
    want kernels/args.h 'no op plus'
    edit kernels/kernels.def 's/^KERNEL(slot_sum,\( *\)strict,/KERNEL(slot_sum,\1plain,/'
    want kernels/kernels.def 'first row of slot_sum is plain'
    edit kernels/kernels.def '/^KERNEL(swiglu, *strict/s/EXACT/ULP(1)/'
    want kernels/kernels.def 'swiglu__strict has bound ULP(1)'
    edit kernels/kernels.def '/^KERNEL(slot_sum, *pair/s/REASSOC/NONE/'
    want kernels/kernels.def 'slot_sum__pair has bound NRMSE'
    rm "$tree/kernels/fused_moe_sum.comp"
    want kernels/fused.def 'moe_sum has no kernels/fused_moe_sum.comp'
    edit fixtures/fused.cases 's/^kv /norm_rope /'
    want kernels/fused.def 'kv has no case'
    edit kernels/fused.def '/^MEMBER(kv, *rope/s/EXACT/ULP(1)/'
    want kernels/fused.def 'kv, rope has bound ULP(1)'
    edit kernels/fused.def 's/^MEMBER(glu, *swiglu/MEMBER(glu, plus/'
    want kernels/fused.def 'a member of glu is no op: plus'
    want engine/fusions.def 'are not the members of glu'
    edit engine/fusions.def 's/^FUSION(moe, .*/FUSION(more, moe_gate, moe_mid)/'
    want engine/fusions.def 'more is no row'
    want kernels/fused.def 'moe has no group'
    edit engine/format/q4_k.c 's/ds4_q4_k_decode/ds4_q4_k_read/'
    want engine/format/q4_k.c 'no ds4_q4_k_decode'
    rm "$tree/reports/csv.c"
    want reports/writers.def 'csv has no reports/csv.c'
    edit engine/taps.def '/^TAP(ffn_out,/s/add/plus/'
    want engine/taps.def 'calls no op of ops.def: plus'
    edit engine/variants.def 's/"op:rope"/"op:turn"/'
    want engine/variants.def 'touches nothing known: op:turn'
    edit engine/variants.def 's/"tap:kv_row"/"tap:kv_line"/'
    want engine/variants.def 'touches nothing known: tap:kv_line'
    round

    echo '# nothing' >"$tree/fixtures/ops/add.cases"
    want fixtures/ops/add.cases 'no case'
    edit kernels/kernels.def '/^KERNEL(add,/d'
    want engine/ops/ops.def 'op add has no row'
    edit kernels/kernels.def 's/^KERNEL(slot_sum,\( *\)pair,/KERNEL(slot_sum,\1strict,/'
    want kernels/kernels.def 'slot_sum__strict twice'
    edit engine/ops/ops.def '/^OP(swiglu,/d'
    want kernels/kernels.def 'an op that is not in ops.def: swiglu'
    rm "$tree/engine/format/q4_k.c"
    want engine/format/quants.def 'Q4_K has no engine/format/q4_k.c'
    edit engine/format/quants.def '/^QUANT(Q8_0,/d'
    want engine/format/q8_0.c 'without a row'
    round

    # These leave the tables alone: the exit status must come from them.
    echo "/* $marker */" >"$tree/drift/planted.c"
    want drift/planted.c 'open marker'
    printf 'a\0b %s\n' "$place" >"$tree/drift/planted.bin"
    want drift/planted.bin 'a path of one machine'
    awk 'BEGIN { for (i = 0; i < 801; i++) print "" }' >"$tree/kernels/glsl/planted.glsl"
    want kernels/glsl/planted.glsl '801 lines'
    round

    if [ "$n_miss" != 0 ]; then return 1; fi
    echo "check_tables: $n_plant planted violations found"
}

case ${1-} in
'') check ;;
--self-test) self_test ;;
*)
    echo "usage: check_tables.sh [--self-test]" >&2
    exit 64
    ;;
esac
