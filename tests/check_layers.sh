#!/bin/sh
# Layers: includes only point left.
#
#   base < format, tap < model, kv < ops, plan, ledger, variants < ref, vk < forward
#        < session, engine, ds4.h < drift < reports < drift/cmd
#
# and each library has one doorway. One line per violation, file:line: what, and exit status 1.
# `check_layers.sh --self-test` plants one violation of every rule in a copy of the tree and fails
# unless each is found at its line.
#
# Tables (.def) belong to the layer of their folder, with one exception: engine/ops/ops.def is a list
# of names that includes nothing, and tap names the op of each call.
set -eu
cd "$(dirname "$0")/.."

# file:line:text of every include, and of every call that reads the environment.
lines() {
    find engine drift reports kernels tests -type f \
        \( -name '*.[ch]' -o -name '*.def' -o -name '*.comp' -o -name '*.glsl' \) |
        LC_ALL=C sort |
        xargs grep -nE '^[[:space:]]*#[[:space:]]*include|getenv[[:space:]]*\(|(^|[^a-zA-Z_])environ([^a-zA-Z_]|$)' /dev/null
}

check() {
    lines | awk '
    function bad(what) { print at ": " what; n_bad++ }
    function exists(path,  line, r) { r = (getline line < path); close(path); return r >= 0 }
    function starts(s, head) { return substr(s, 1, length(head)) == head }

    # The layer of a file of the engine; -1 where the table below lacks it.
    function layer(f) {
        if (starts(f, "engine/base/")) return 0
        if (starts(f, "engine/format/") || f ~ /^engine\/(taps?|fusions)\.(c|h|def)$/) return 1
        if (starts(f, "engine/model/") || starts(f, "engine/kv/")) return 2
        if (starts(f, "engine/ops/") || f ~ /^engine\/(plans?|profiles?|ledger|variants|routes(_env)?)\.(c|h|def)$/) return 3
        if (starts(f, "engine/ref/") || starts(f, "engine/vk/")) return 4
        if (f ~ /^engine\/kernel_(case|lines|suite)\.[ch]$/) return 3
        if (f ~ /^engine\/(forward|forward_state|activations|gather)\.(c|h|def)$/) return 5
        if (f ~ /^engine\/(session|engine|ds4|kernel_capture)\.[ch]$/) return 6
        return -1
    }
    # base is below all; format and tap, model and kv are neighbours that may not see each other.
    function part(f) {
        if (starts(f, "engine/format/")) return "format"
        if (f ~ /^engine\/(taps?|fusions)\./) return "tap"
        if (starts(f, "engine/model/")) return "model"
        if (starts(f, "engine/kv/")) return "kv"
        if (starts(f, "engine/ref/")) return "ref"
        if (starts(f, "engine/vk/")) return "vk"
        return "layer " layer(f)
    }

    function engine(from, to,  a, b) {
        if (!starts(to, "engine/")) {
            if (!starts(to, "kernels/")) bad("the engine includes " to)
            return
        }
        a = layer(from); b = layer(to)
        if (a < 0) bad(from " is in no layer: name it in tests/check_layers.sh")
        if (b < 0) bad(to " is in no layer: name it in tests/check_layers.sh")
        if (to == "engine/ops/ops.def" && part(from) == "tap") return
        if (a < b) bad("includes upwards: " to)
        if (a == b && part(from) != part(to)) bad(part(from) " includes " part(to) ": " to)
    }
    function drift(from, to) {
        if (starts(to, "drift/cmd/")) bad("drift/cmd is the roof, nothing includes it: " to)
        else if (starts(to, "reports/")) bad("drift includes reports: " to)
        else if (starts(to, "engine/") && to != "engine/ds4.h" && !starts(to, "engine/base/"))
            bad("drift sees engine/ds4.h and engine/base alone: " to)
        else if (starts(to, "tests/")) bad("includes a test: " to)
    }
    function reports(from, to) {
        if (!starts(to, "reports/") && !starts(to, "engine/base/") && to != "drift/result.h")
            bad("reports sees drift/result.h and engine/base alone: " to)
    }
    function roof(from, to) {
        if (starts(to, "tests/")) bad("includes a test: " to)
        else if (to !~ /\.h$/ && !starts(to, "drift/cmd/")) bad("drift/cmd includes public headers alone: " to)
    }
    function kernels(from, to) {
        if (!starts(to, "kernels/")) bad("kernels includes nothing outside itself: " to)
    }
    function doorways(from, to) {
        if (to ~ /^kernels\/(kernels\.def|fused\.def|probes\.def|float_probes\.def|probe_ops\.h)$/ && !starts(from, "engine/vk/"))
            bad("engine/vk alone reads " to)
        else if (to == "kernels/args.h" && !starts(from, "engine/vk/") && !starts(from, "engine/ops/"))
            bad("kernels/args.h belongs to engine/ops and engine/vk")
        else if (starts(to, "kernels/") && to !~ /^kernels\/((kernels|fused|probes|float_probes)\.def|args\.h|probe_ops\.h)$/)
            bad("no C file includes " to)
    }
    function library(from, to) {
        if (starts(from, "kernels/")) {
            if (from != "kernels/args.h" || to != "stdint.h") bad("kernels includes nothing outside itself: <" to ">")
            return
        }
        if (to ~ /^(vulkan\/|volk|vk_)/ && !starts(from, "engine/vk/")) bad("Vulkan belongs to engine/vk: <" to ">")
        if (to ~ /^hdf5|^H5/ && from !~ /^drift\/store[a-z0-9_]*\.[ch]$/) bad("HDF5 belongs to drift/store: <" to ">")
        if (to ~ /^gsl\// && from != "drift/stats.c") bad("GSL belongs to drift/stats.c: <" to ">")
        if (to ~ /^cmocka/) bad("cmocka belongs to tests: <" to ">")
    }

    # A name in a kernel is looked up beside it, in kernels/glsl and in kernels; elsewhere from the root.
    function resolve(from, name,  dir) {
        if (starts(from, "kernels/")) {
            dir = from; sub(/[^\/]*$/, "", dir)
            if (exists(dir name)) return dir name
            if (exists("kernels/glsl/" name)) return "kernels/glsl/" name
            if (exists("kernels/" name)) return "kernels/" name
        }
        return name
    }

    {
        match($0, /^[^:]*:[0-9]*:/)
        at = substr($0, 1, RLENGTH - 1); text = substr($0, RLENGTH + 1)
        from = at; sub(/:.*/, "", from)
    }
    text !~ /^[ \t]*#[ \t]*include/ {
        if (from == "engine/variants.c" || starts(from, "tests/")) next
        if (text ~ /getenv[ \t]*\(/ || starts(from, "engine/"))
            bad("reads the environment outside engine/variants.c")
        next
    }
    text ~ /include[ \t]*</ {
        to = text; sub(/^[^<]*</, "", to); sub(/>.*/, "", to)
        if (!starts(from, "tests/")) library(from, to)
        next
    }
    text ~ /include[ \t]*"/ {
        to = text; sub(/^[^"]*"/, "", to); sub(/".*/, "", to)
        to = resolve(from, to)
        if (to ~ /\.\./ || !exists(to)) { bad("no such file from the root of the tree: " to); next }
        if (starts(from, "tests/")) next
        if (starts(from, "kernels/")) { kernels(from, to); next }
        doorways(from, to)
        if (starts(from, "engine/")) engine(from, to)
        else if (starts(from, "drift/cmd/")) roof(from, to)
        else if (starts(from, "drift/")) drift(from, to)
        else reports(from, to)
        next
    }
    { bad("an include that names no file") }
    END { exit n_bad > 0 }'
}

# plant FILE TEXT: appends a line to a file of the copy and wants it reported at that line.
plant() {
    file=$1 text=$2
    n_plant=$((n_plant + 1))
    mkdir -p "$copy/$(dirname "$file")"
    kept=0
    if [ -f "$copy/$file" ]; then kept=1; cp "$copy/$file" "$copy/kept"; fi
    printf '%s\n' "$text" >>"$copy/$file"
    line=$(wc -l <"$copy/$file" | tr -d ' ')
    if sh "$copy/tests/check_layers.sh" >"$copy/found"; then status=0; else status=$?; fi
    if [ "$status" != 1 ] || ! grep -q "^$file:$line: " "$copy/found"; then
        echo "check_layers --self-test: not found: $file:$line: $text" >&2
        n_miss=$((n_miss + 1))
    fi
    if [ "$kept" = 1 ]; then cp "$copy/kept" "$copy/$file"; else rm "$copy/$file"; fi
}

self_test() {
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    trap 'exit 1' INT TERM
    cp -R engine drift reports kernels "$copy"
    mkdir "$copy/tests"
    cp tests/check_layers.sh "$copy/tests"
    n_plant=0 n_miss=0
    plant engine/base/err.h '#include "engine/format/gguf.h"'
    plant engine/format/gguf.h '#include "engine/model/config.h"'
    plant engine/format/gguf.h '#include "engine/tap.h"'
    plant engine/tap.h '#include "engine/ops/ops.h"'
    plant engine/model/config.h '#include "engine/plan.h"'
    plant engine/ops/ops.h '#include "engine/ref/ref.h"'
    plant engine/variants.c '#include "engine/vk/vk.h"'
    plant engine/ref/ref.c '#include "engine/vk/vk.h"'
    plant engine/vk/vk.c '#include "engine/ref/ref.h"'
    plant engine/vk/vk.c '#include "engine/forward.h"'
    plant engine/forward.c '#include "engine/ds4.h"'
    plant engine/engine.c '#include "drift/result.h"'
    plant engine/stray.c '#include "engine/base/err.h"'
    plant engine/forward.c '#include "kernels/args.h"'
    plant engine/ops/ops.c '#include "kernels/kernels.def"'
    plant engine/ops/ops.c '#include "kernels/probes.def"'
    plant engine/ops/ops.c '#include "kernels/probe_ops.h"'
    plant engine/ops/add.c '#  include <vulkan/vulkan.h>'
    plant engine/ops/add.c '    if (getenv("DS4_X")) return;'
    plant engine/plan.c 'extern char **environ;'
    plant engine/ops/add.c '#include "engine/ops/nowhere.h"'
    plant engine/ops/add.c '#include "../base/err.h"'
    plant drift/result.c '#include "engine/plan.h"'
    plant drift/result.c '#include "reports/report.h"'
    plant drift/result.c '#include <hdf5.h>'
    plant drift/result.c '#include <gsl/gsl_sort.h>'
    plant drift/result.c '#include <cmocka.h>'
    plant drift/result.c 'const char *s = secure_getenv ("HOME");'
    plant reports/report.c '#include "drift/store.h"'
    plant reports/report.c '#include "engine/ds4.h"'
    plant drift/cmd/planted.c '#include "engine/taps.def"'
    : >"$copy/drift/cmd/planted.h"
    plant drift/result.c '#include "drift/cmd/planted.h"'
    plant reports/report.c '#include "drift/cmd/planted.h"'
    plant kernels/add.comp '#include "engine/base/err.h"'
    plant kernels/args.h '#include <string.h>'
    plant kernels/glsl/types.glsl '#include "engine/plan.h"'
    if [ "$n_miss" != 0 ]; then return 1; fi
    echo "check_layers: $n_plant planted violations found"
}

case ${1-} in
'') check ;;
--self-test) self_test ;;
*) echo "usage: check_layers.sh [--self-test]" >&2; exit 64 ;;
esac
