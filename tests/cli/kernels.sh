#!/bin/sh
# `kernels`: wrong usage, filters, the table against its CSV, JSON and JUnit, replay of a pasted case,
# a program away from its tree; then planted faults: a kernel that is wrong, a row that no case
# reaches, an op without cases at its edges. The program is linked again with each of them.
. tests/cli_lib.sh

# field NAME: that column of the only row in $t/k.csv.
field() {
    tr -d '\r' <"$t/k.csv" | awk -F, -v name="$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i } NR == 2 { print $at }'
}

expect 64 "$bin" kernels frob
says 'wanted options alone'
expect 64 "$bin" kernels --inputs listed,frob
says 'wanted listed, edges or captured'
expect 64 "$bin" kernels --case 'add__strict n_elem=3' --op add
expect 64 "$bin" kernels --case frob
says "wanted 'OP__ROW KEY=VALUE...'"
VK_ICD_FILENAMES=/dev/null VK_DRIVER_FILES=/dev/null expect 4 "$bin" kernels --op add
need_device
expect 64 "$bin" kernels --op frob
says 'no op is called "frob"'
expect 64 "$bin" kernels --row frob
says 'has no row "frob"'
expect 64 "$bin" kernels --case 'add__strict n_elem=3 frob=1'
says 'add has no size or argument "frob"'
expect 64 "$bin" kernels --case 'add__strict n_elem=many'
says 'wanted a number'
expect 64 "$bin" kernels --case 'add__strict tap=ffn_out layer=99 phase=decode call=0'
says 'makes no such call'
expect 64 "$bin" kernels --device 200
expect 74 "$bin" kernels --op add -m "$t/none.gguf"
expect 74 "$bin" kernels --op add --csv "$t/none/k.csv"

# One row, in every format. Its kinds of input are all there.
expect 0 "$bin" kernels --op slot_sum --row pair --csv "$t/k.csv" --json "$t/k.json" --junit "$t/k.xml"
says 'ok: 1 rows within their bounds, 0 beyond, 0 not covered, 0 not exercised'
for kind in listed edges captured hard; do
    [ "$(field $kind)" -gt 0 ] || die "no $kind case of slot_sum__pair"
done
[ "$(field state) $(field equal_bits)" = "ok no" ] || die "state in the CSV: $(cat "$t/k.csv")"
grep -q '"schema": "ds4-drift/kernels"' "$t/k.json" || die "no schema in the JSON"
grep -q "\"worst_ulp\": $(field worst_ulp), \"worst_nrmse\": $(field worst_nrmse)," "$t/k.json" ||
    die "the JSON and the CSV differ"

# JUnit: every tag closed in order, a test case per row.
awk '
    { text = text $0 "\n" }
    END {
        while (match(text, /<[^>]*>/)) {
            tag = substr(text, RSTART + 1, RLENGTH - 2); text = substr(text, RSTART + RLENGTH)
            if (tag ~ /^\?/ || tag ~ /\/$/) continue
            name = tag; sub(/^\//, "", name); sub(/ .*/, "", name)
            if (tag !~ /^\//) open[++n] = name
            else if (n < 1 || open[n--] != name) bad = 1
        }
        exit bad || n != 0 || text ~ /[<>]/
    }' "$t/k.xml" || die "JUnit is not well formed"
grep -q 'tests="1" failures="0" skipped="0"' "$t/k.xml" || die "JUnit counts"

# The case that the table prints gives that very error again, and shows elements.
case=$(field case)
expect 0 "$bin" kernels --case "$case"
says "$case"
says "nrmse $(field worst_nrmse | awk '{ printf "%.3g", $1 }'); "
says 'element  reference'
expect 0 "$bin" kernels --case 'rope__strict tap=kv_rot layer=1 phase=decode call=0'
says '0 of '
# A row that refuses is not clean.
expect 3 "$bin" kernels --case 'matmul__f16 n_tok=2 n_in=256 n_out=3 wtype=Q8_0'
says 'not exercised: fewer tokens'
expect 0 "$bin" kernels --op slot_sum --row pair --list
says 'slot_sum__pair n_tok=2 n_slot=6 n_col=63 seed=101'
says 'slot_sum__pair tap=moe_out layer=0 phase=decode call=0'

# Away from its tree the program has its cases still; what it has not, it says.
home=$PWD
here=$(cd "$(dirname "$bin")" && pwd)/${bin##*/}
cd "$t"
expect 0 "$here" kernels --op add
says 'captured none: fixtures/tiny/ds4-tiny-q2.gguf is not here'
expect 0 "$here" kernels --op add -m "$home/$q2"
says 'calls of'
cd "$home"

# ---- planted faults ----

build=$(dirname "$bin")
libs=$(pkg-config --libs hdf5 gsl libxxhash jansson vulkan)

# link SPIRV.S LINES.o: $t/planted of these and everything else of the build.
link() {
    # shellcheck disable=SC2046,SC2086
    gcc ${PLANT_LDFLAGS:-} -o "$t/planted" "$1" "$2" \
        $(find "$build/engine" "$build/drift" "$build/reports" -name '*.o' ! -name kernel_lines.o) \
        $libs -lhdf5_serial_hl -lpthread -lm
}

# cases SED OP: $t/lines.o with the cases of an op changed.
cases() {
    mkdir -p "$t/tree"
    rm -rf "$t/tree/fixtures"
    mkdir "$t/tree/fixtures"
    cp -r fixtures/ops "$t/tree/fixtures/ops"
    sed -i "$1" "$t/tree/fixtures/ops/$2.cases"
    if cmp -s "$t/tree/fixtures/ops/$2.cases" "fixtures/ops/$2.cases"; then die "no case of $2 changed"; fi
    (cd "$t/tree" && gcc -std=c11 -I"$home" -c -o "$t/lines.o" "$home/engine/kernel_lines.c")
}

# The last of an odd number of slots is dropped: found, with a case that finds it again.
mkdir "$t/src"
cp -r kernels "$t/src/kernels"
sed -i 's/s + 1u < a.n_slot ? x\[at + (s + 1u) \* a.n_col\] : 0.0/s + 2u < a.n_slot ? x[at + (s + 1u) * a.n_col] : 0.0/' \
    "$t/src/kernels/slot_sum.comp"
if cmp -s "$t/src/kernels/slot_sum.comp" kernels/slot_sum.comp; then die "nothing to plant in slot_sum.comp"; fi
# shellcheck disable=SC2046
glslc --target-env=vulkan1.1 -O -I "$t/src/kernels/glsl" -I "$t/src/kernels" \
    $(cat "$build/kernels/slot_sum__pair.flags") -o "$t/pair.spv" "$t/src/kernels/slot_sum.comp"
sed "s|\"$build/kernels/slot_sum__pair.spv\"|\"$t/pair.spv\"|" "$build/kernels/spirv.S" >"$t/spirv.S"
link "$t/spirv.S" "$build/engine/kernel_lines.o"
expect 1 "$t/planted" kernels --op slot_sum --csv "$t/k.csv" --junit "$t/k.xml"
says 'breach: '
says 'FAIL: 1 rows within their bounds, 1 beyond'
grep -q 'failures="1"' "$t/k.xml" || die "a breach that JUnit does not show"
sed -i '/^slot_sum,strict/d' "$t/k.csv"
case=$(field case)
expect 1 "$t/planted" kernels --case "$case"
says 'FAIL: bound NRMSE(4e-7)'
expect 0 "$bin" kernels --case "$case"

# No case with enough tokens for the f16 row: it refused them all, which is no pass.
cases '/n_tok=[0-9][0-9]/d; /n_tok=9/d; /n_tok=?y/d' matmul
link "$build/kernels/spirv.S" "$t/lines.o"
expect 1 "$t/planted" kernels --op matmul --row f16 --inputs listed,edges
says 'not covered: not exercised: fewer tokens than the row needs (9)'
# No template: no case at an edge of any row's tile. No fill: no hard values.
cases '/?/d' add
link "$build/kernels/spirv.S" "$t/lines.o"
expect 1 "$t/planted" kernels --op add
says 'not covered: no case at an edge of its tile'
cases '/fill=/d' add
link "$build/kernels/spirv.S" "$t/lines.o"
expect 1 "$t/planted" kernels --op add --junit "$t/k.xml"
says 'not covered: no case with hard values'
grep -q '<failure type="not covered"' "$t/k.xml" || die "a row without coverage that JUnit does not show"
