#!/bin/sh
# Exit codes and one clear line for wrong usage, wrong environment and damaged files.
. tests/cli_lib.sh

# line CODE TEXT COMMAND...: exits with CODE, prints TEXT, and the message is one line.
line() {
    code=$1 text=$2
    shift 2
    expect "$code" "$@"
    says "$text"
    [ "$code" = 64 ] || [ "$(wc -l <"$t/out")" = 1 ] || {
        cat "$t/out" >&2
        die "more than one line: $*"
    }
}

line 64 'no command "frobnicate"' "$bin" frobnicate
line 64 'no model: give -m FILE' "$bin" run -o "$t/x.h5"
line 64 'no output' "$bin" run -m "$model"
line 64 'wanted ref, ref64 or vk' "$bin" run -m "$model" --engine cuda -o "$t/x.h5"
line 64 'no built-in plan' "$bin" run -m "$model" --plan fastest -o "$t/x.h5"
line 64 'no op, tap, route or variant' "$bin" run -m "$model" --set frob=1 -o "$t/x.h5"
line 64 'has no row "tree"' "$bin" run -m "$model" --set rms_norm=tree -o "$t/x.h5"
line 64 'within 0-5' "$bin" run -m "$model" --set DS4_HC_STABLE@6=1 -o "$t/x.h5"
line 64 'wanted 1/0, on/off' "$bin" run -m "$model" --set DS4_HC_STABLE=maybe -o "$t/x.h5"
line 64 'no tap is called "frob"' "$bin" run -m "$model" --dump frob -o "$t/x.h5"
line 64 'no fixture "frob"' "$bin" run -m "$model" --fixtures frob -o "$t/x.h5"
line 64 'DS4_FROB: no such variable' env DS4_FROB=1 "$bin" run -m "$model" -o "$t/x.h5"
line 64 'DS4_SAFE_MATH: found "si"' env DS4_SAFE_MATH=si "$bin" run -m "$model" -o "$t/x.h5"
line 64 'disagree' env DS4_HC_STABLE=1 DS4_METAL_HC_STABLE=0 "$bin" run -m "$model" -o "$t/x.h5"
line 64 'two or more run files' "$bin" compare "$t/x.h5"
line 64 'same plan' "$bin" bisect -m "$model" --fixtures short_italian_fact --evidence none
line 74 'No such file' "$bin" run -m "$t/none.gguf" -o "$t/x.h5"
line 74 'No such file' "$bin" compare "$t/a.h5" "$t/b.h5"
line 74 'cannot create' "$bin" run -m "$model" --prompt ciao --dump hash -o "$t/none/x.h5"
head -c 5000 "$model" >"$t/cut.gguf"
line 65 'cut.gguf' "$bin" run -m "$t/cut.gguf" -o "$t/x.h5"
line 65 'cut.gguf' "$bin" model verify "$t/cut.gguf"
echo '12 notanid 5' >"$t/ids"
line 65 'wanted a token id' "$bin" run -m "$model" --tokens "$t/ids" -o "$t/x.h5"
line 64 'SIMD path: found "mmx", wanted one of auto, scalar' "$bin" run -m "$model" --simd mmx --prompt ciao -o "$t/x.h5"
echo '12 99999' >"$t/ids"
line 65 'token 1: id 99999, wanted 0 to 2047' "$bin" run -m "$model" --tokens "$t/ids" -o "$t/x.h5"
[ ! -e "$t/x.h5" ] || die "a failed run left a file under its name"
cp "$model" "$t/notarun.h5"
line 65 'notarun.h5' "$bin" info "$t/notarun.h5"
expect 0 "$bin" run -m "$model" --prompt 'Quel ramo del lago' --dump full -o "$t/a.h5"
head -c 100000 "$t/a.h5" >"$t/cut.h5"
line 65 'cut.h5' "$bin" compare "$t/cut.h5" "$t/a.h5"
expect 0 "$bin" run -m "$model" --prompt 'Quel ramo del mare' --dump full -o "$t/b.h5" --set DS4_KV_RAW_F32=1
expect 2 "$bin" compare "$t/a.h5" "$t/b.h5"
says 'not comparable'
VK_ICD_FILENAMES=/dev/null VK_DRIVER_FILES=/dev/null expect 4 "$bin" run -m "$model" --engine vk --prompt ciao -o "$t/x.h5"
