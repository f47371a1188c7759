#!/bin/sh
# A run that goes on from a session file in another process has the bits of the uninterrupted one at
# the positions that both have; the file depends on nothing but the tokens; what does not fit is
# refused with its name, and nothing is left behind.
. tests/cli_lib.sh
m=fixtures/vectors/peer/tiny-a-calm.gguf
head -n 44 fixtures/vectors/peer/tiny-a.tokens >"$t/all.tokens"
[ "$(wc -w <"$t/all.tokens")" -ge 40 ] || die "too few tokens"
tr -s ' \n' '\n\n' <"$t/all.tokens" | head -n 44 >"$t/44.tokens"
head -n 39 "$t/44.tokens" >"$t/39.tokens"

for plan in strict compat; do
    expect 0 "$bin" run -m $m --plan $plan --ctx 2048 --tokens "$t/44.tokens" --decode 3 --dump full -o "$t/whole.h5"
    # 5: one row of ratio 4 and a token more; 38: the window is full and selection has begun.
    for n in 5 38; do
        head -n $n "$t/44.tokens" >"$t/n.tokens"
        expect 0 "$bin" run -m $m --plan $plan --chunk 7 --tokens "$t/n.tokens" --dump hash --save-session "$t/n.dsv4" -o "$t/n.h5"
        expect 0 "$bin" run -m $m --plan $plan --tokens "$t/44.tokens" --decode 3 --dump full --load-session "$t/n.dsv4" -o "$t/rest.h5"
        says "gone on from $t/n.dsv4"
        expect 0 "$bin" info "$t/rest.h5"
        says "44 tokens, 3 decoded"
        says "evaluated from position $n on"
        expect 0 "$bin" compare --allow-same-rows --json "$t/c.json" "$t/whole.h5" "$t/rest.h5"
        says "same bits"
        says "$((44 - n)) logit rows"
        says "at the positions of both sides alone"
    done
done

# Written in the middle of a run and by decode, the bytes are the same: dead rows are cleared.
expect 0 "$bin" run -m $m --plan compat --tokens "$t/44.tokens" --decode 20 --dump hash --save-session "$t/at.dsv4" --save-at 38 -o "$t/at.h5"
cmp "$t/n.dsv4" "$t/at.dsv4" || die "another way, other bytes"
digest=$("$bin" info --session "$t/at.dsv4" | sed -n 's/.*\(xxh3-128:.*\)/\1/p')
[ -n "$digest" ] || die "no digest"
expect 0 "$bin" info --facts "$t/at.h5"
says "at.dsv4, 38 tokens, $digest"
expect 0 "$bin" info --facts "$t/rest.h5"
says "n.dsv4, 38 tokens, $digest"
expect 0 "$bin" info --session "$t/at.dsv4"
says "DSV4 version 1, 849932 bytes"
says "context size         2048"
says "token count          38"
says "live raw rows        16"

# A planted bit is found at the first position after it.
cp "$t/n.dsv4" "$t/bad.dsv4"
rows=$((52 + 4 * 38 + 4 * 1024 + 8 * 8))
printf '\100' | dd of="$t/bad.dsv4" bs=1 seek=$((rows + 4 * 16 * 192 - 3)) conv=notrunc 2>/dev/null
expect 0 "$bin" run -m $m --plan compat --tokens "$t/44.tokens" --decode 3 --dump full --load-session "$t/bad.dsv4" -o "$t/bad.h5"
expect 1 "$bin" compare --allow-same-rows "$t/whole.h5" "$t/bad.h5"
says "layer 0, tap attn_heads"
says "position 38"

# What does not fit.
refuses() { # CODE TEXT OPTION...
    code=$1 text=$2
    shift 2
    rm -f "$t/no.h5" "$t/no.dsv4"
    expect "$code" "$bin" run -m $m --dump hash -o "$t/no.h5" "$@"
    says "$text"
    [ ! -e "$t/no.h5" ] || die "a run file after: $text"
    [ ! -e "$t/no.dsv4" ] || die "a session file after: $text"
    [ ! -e "$t/no.dsv4.partial" ] || die "a partial session file after: $text"
}
sed 's/^.*$/7/' "$t/44.tokens" >"$t/other.tokens"
refuses 65 "token 0 is " --tokens "$t/other.tokens" --load-session "$t/n.dsv4"
refuses 64 "nothing is left to evaluate" --tokens "$t/n.tokens" --load-session "$t/n.dsv4"
refuses 65 "prefill chunk is 2048, wanted 3000" --tokens "$t/44.tokens" --load-session "$t/n.dsv4" --payload-chunk 3000
refuses 64 "is of a context of 2048 tokens, wanted at most 100 (--ctx)" --tokens "$t/44.tokens" --load-session "$t/n.dsv4" --ctx 100
refuses 64 "a session saved at 45 tokens, fixture tokens has 44" --tokens "$t/44.tokens" --save-session "$t/no.dsv4" --save-at 45
refuses 64 "has 38 already" --tokens "$t/44.tokens" --load-session "$t/n.dsv4" --save-session "$t/no.dsv4" --save-at 20
refuses 64 "--save-at without --save-session" --tokens "$t/44.tokens" --save-at 3
refuses 74 "No such file" --tokens "$t/44.tokens" --load-session "$t/none.dsv4"
refuses 74 "cannot create" --tokens "$t/39.tokens" --save-session "$t/none/x.dsv4"
refuses 65 "$m: session: magic is 0x46554747, wanted 0x34565344 (DSV4)" --tokens "$t/44.tokens" --load-session $m
head -c 5000 "$t/n.dsv4" >"$t/cut.dsv4"
refuses 65 "5000 bytes end within the rows of layer 0, wanted 849932" --tokens "$t/44.tokens" --load-session "$t/cut.dsv4"
expect 65 "$bin" run -m "$model" --tokens "$t/44.tokens" --dump hash --load-session "$t/n.dsv4" -o "$t/no.h5"
says "layer count is 8, wanted 6"
expect 64 "$bin" run -m "$model" --fixtures short_italian_fact,long_code_audit --dump hash --save-session "$t/no.dsv4" -o "$t/no.h5"
says "a session file with 2 fixtures, wanted one fixture"
# What can be known is said before anything is evaluated.
refuses 64 "a session of 39 tokens fills its context of 39: no session could load it, give --ctx of at least 40" \
    --tokens "$t/39.tokens" --ctx 39 --save-session "$t/no.dsv4"
refuses 64 "the run file and the session file are one" --tokens "$t/39.tokens" --save-session "$t/no.h5"
mkfifo "$t/pipe"
refuses 64 "a device or a pipe, wanted a file" --tokens "$t/39.tokens" --save-session "$t/pipe"
[ -p "$t/pipe" ] || die "a pipe was replaced"
refuses 64 "engine ref64: its state is wider than the f32 of a session file" --engine ref64 --plan default --tokens "$t/39.tokens" --save-session "$t/no.dsv4"
expect 65 "$bin" info --session "$t/whole.h5"
expect 64 "$bin" info --session
