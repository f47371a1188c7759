#!/bin/sh
# check_routes.sh BIN [ENGINE] [MODEL]: every matmul route alone, as it is `on`, and all together,
# against strict on all fixtures: calls that the route's rows took (from the ledger), largest rms and
# absolute difference of the logits at a position, largest KL, flips of top-1. A route that the ledger
# does not show is not exercised, and its logits must have the bits of strict. Exit status 1 otherwise.
set -eu
cd "$(dirname "$0")/.."
if [ $# -lt 1 ]; then
    echo "usage: check_routes.sh BIN [ENGINE] [MODEL]" >&2
    exit 64
fi
bin=$1 engine=${2:-vk} model=${3:-fixtures/tiny/ds4-tiny-q4k.gguf}
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' INT TERM
routes=$("$bin" info --routes | awk '/^[a-z0-9_]+(, group .*)?$/ { sub(",.*", ""); print }')

run() {
    out=$1
    shift
    "$bin" run -m "$model" --engine "$engine" --plan strict --dump logits -o "$t/$out.h5" --fresh "$@" >/dev/null
}

run strict
"$bin" info --facts "$t/strict.h5" | awk '$1 == "device" || $1 == "driver" || $1 == "simd" { print }'
printf '%-16s %-24s %14s %11s %11s %11s %6s\n' route fixture calls rms max_abs KL flips
n_bad=0
for route in $routes all; do
    run one --route "$route=on"
    "$bin" info --routes "$t/one.h5" >"$t/matrix"
    # Same bits and the same rows are exit status 0 and 2 of compare; the table below tells them apart.
    "$bin" compare "$t/strict.h5" "$t/one.h5" -q --csv "$t/one.csv" || [ $? -le 2 ]
    awk -F, -v route="$route" -v matrix="$t/matrix" '
    BEGIN {
        while ((getline line < matrix) > 0) {
            n = split(line, word, " ")
            if (line ~ /^route/) for (i = 4; i <= n; i++) id[i - 3] = word[i]
            else if (line ~ /^[a-z0-9_]+ +[0-9n]/ && line !~ /calls,/ && word[1] != "tokens") {
                if (route != "all" && word[1] != route) continue
                for (i = k = 2; i <= n; k++)
                    if (word[i] == "not") i += 2
                    else { fast[k - 1] += word[i]; calls[k - 1] += word[i + 2]; i += 3 }
            }
        }
    }
    { sub(/\r$/, "") }
    $1 == "logits" { value[$2, $9] = $10 }
    $1 == "logit" && $9 == "same_top1" && $10 == 0 { flips[$2]++ }
    END {
        for (i = 1; i in id; i++) {
            f = id[i]
            if (!((f, "rms_max") in value)) { printf "%s: no logits of %s\n", route, f; bad = 1; continue }
            text = fast[i] ? fast[i] " of " calls[i] : "not exercised"
            printf "%-16s %-24s %14s %11.3g %11.3g %11.3g %6d\n", route, f, text,
                value[f, "rms_max"], value[f, "max_abs"], value[f, "kl_max"], flips[f]
            if (!fast[i] && value[f, "rms_max"] != 0) {
                printf "%s: %s moved although no row of the route ran\n", route, f; bad = 1
            }
        }
        exit bad
    }' "$t/one.csv" || n_bad=$((n_bad + 1))
done
[ "$n_bad" = 0 ]
