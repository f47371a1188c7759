#!/bin/sh
# model tokenize, model make --tokenizer, run --tokenizer: files of text and ids both ways, a GGUF that
# carries a vocabulary, and what is refused.
. tests/cli_lib.sh
v=fixtures/vectors/tokenizer
json=$v/published.json

# Ids out, text back, through files and pipes; a byte that is no UTF-8 and a NUL among them.
printf 'Il 2° battello, 1234 中文ab!\n\n  <think>\377\000x  ' >"$t/text"
expect 0 "$bin" model tokenize --tokenizer $json -o "$t/ids" "$t/text"
expect 0 "$bin" model tokenize --tokenizer $json --decode -o "$t/back" "$t/ids"
cmp -s "$t/text" "$t/back" || die "other bytes came back"
"$bin" model tokenize --tokenizer $json <"$t/text" | "$bin" model tokenize --tokenizer $json --decode - >"$t/back"
cmp -s "$t/text" "$t/back" || die "other bytes came back through pipes"
tr '\n' ' ' <"$t/ids" >"$t/one-line"
expect 0 "$bin" model tokenize --tokenizer $json --decode -o "$t/back" "$t/one-line"
cmp -s "$t/text" "$t/back" || die "ids on one line read otherwise"
expect 0 "$bin" model tokenize --tokenizer $json --time -o "$t/ids2" "$t/text"
says 'to the same bytes'
cmp -s "$t/ids" "$t/ids2" || die "--time changed the ids"

# Spellings of special tokens: text, the seven, every added token.
printf '<think><dsml:' >"$t/marked"
n=$("$bin" model tokenize --tokenizer $json "$t/marked" | wc -l)
[ "$n" -gt 6 ] || die "plain text became special"
n=$("$bin" model tokenize --tokenizer $json --specials rendered "$t/marked" | wc -l)
[ "$n" -gt 3 ] || die "rendered: <dsml: became special"
n=$("$bin" model tokenize --tokenizer $json --specials added "$t/marked" | wc -l)
[ "$n" = 2 ] || die "added: $n ids, wanted 2"

# A model that carries the vocabulary. By patterns it gives the same ids, by its own rules others.
"$bin" model tokenize --tokenizer $json --decode </dev/null >"$t/empty"
[ ! -s "$t/empty" ] || die "no ids gave a text"
expect 64 "$bin" model make --tokenizer $json -o "$t/m.gguf"
says 'dimension vocab is 512'
n_vocab=$(sed -n 's/^.*the tokenizer has \([0-9]*\) tokens.*$/\1/p' "$t/out")
expect 0 "$bin" model make --vocab "$n_vocab" --tokenizer $json -o "$t/m.gguf"
expect 0 "$bin" model verify "$t/m.gguf"
printf 'Il 2° battello… a™b 😀a!\n' >"$t/plain"
"$bin" model tokenize --tokenizer $json "$t/plain" >"$t/a"
"$bin" model tokenize -m "$t/m.gguf" --pre hf "$t/plain" >"$t/b"
"$bin" model tokenize -m "$t/m.gguf" "$t/plain" >"$t/c"
"$bin" model tokenize --tokenizer $json --pre model "$t/plain" >"$t/d"
cmp -s "$t/a" "$t/b" || die "the GGUF gives other ids by the same patterns"
cmp -s "$t/c" "$t/d" || die "the rules of existing engines give two results"
if cmp -s "$t/a" "$t/c"; then die "both rules cut alike: the text shows nothing"; fi

# run with another tokenizer: same ids as a file of them.
bos=0
{ echo $bos; cat "$t/a"; } >"$t/ids"
expect 0 "$bin" run -m "$t/m.gguf" --tokenizer $json --prompt-file "$t/plain" --dump hash -o "$t/a.h5"
expect 0 "$bin" run -m "$t/m.gguf" --pre hf --prompt-file "$t/plain" --dump hash -o "$t/b.h5"
expect 0 "$bin" run -m "$t/m.gguf" --tokens "$t/ids" --dump hash -o "$t/c.h5"
expect 0 "$bin" run -m "$t/m.gguf" --prompt-file "$t/plain" --dump hash -o "$t/d.h5"
for f in a b c d; do "$bin" info --digest "$t/$f.h5" | awk '{ print $NF }' >"$t/$f.digest"; done
cmp -s "$t/a.digest" "$t/b.digest" && cmp -s "$t/a.digest" "$t/c.digest" || die "runs of the same ids differ"
if cmp -s "$t/a.digest" "$t/d.digest"; then die "the rule changed nothing"; fi
expect 0 "$bin" info --facts "$t/a.h5"
says "$json"
expect 65 "$bin" run -m "$model" --tokenizer $json --prompt ciao -o "$t/x.h5"
says 'vocabulary of 2048 tokens, the tokenizer given has'

# line CODE TEXT ARGUMENT...: exits with CODE, prints TEXT, leaves no file.
line() {
    code=$1 text=$2
    shift 2
    expect "$code" "$bin" model tokenize "$@"
    says "$text"
    [ ! -e "$t/x" ] && [ ! -e "$t/x.partial" ] || die "left a file: $*"
}
line 64 'give one of -m GGUF and --tokenizer FILE' "$t/text"
line 64 'give one of -m GGUF and --tokenizer FILE' -m "$model" --tokenizer $json "$t/text"
line 64 'wanted model or hf' --tokenizer $json --pre llama "$t/text"
line 64 'wanted plain, rendered or added' --tokenizer $json --specials all "$t/text"
line 64 'tokenize takes no options of make' --tokenizer $json --seed 1 "$t/text"
expect 64 "$bin" model make --decode -o "$t/x"
says 'make takes no options of tokenize'
line 74 'No such file' --tokenizer "$t/none.json" "$t/text"
line 74 'No such file' --tokenizer $json -o "$t/x" "$t/none"
line 74 'cannot create' --tokenizer $json -o "$t/none/x" "$t/text"
echo 7 0 99999 >"$t/far"
line 65 'id 2 of the list is 99999, wanted 0 to' --tokenizer $json --decode -o "$t/x" "$t/far"
echo 7 zero >"$t/far"
line 65 'wanted a token id' --tokenizer $json --decode -o "$t/x" "$t/far"
head -c 3000 $json >"$t/cut.json"
line 65 'cut.json' --tokenizer "$t/cut.json" -o "$t/x" "$t/text"
sed 's/"!":36/"!":1000000000/' $v/bytelevel.json >"$t/far.json"
line 65 'token "!" has id 1000000000' --tokenizer "$t/far.json" -o "$t/x" "$t/text"
line 65 'far.json' -m "$t/far.json" -o "$t/x" "$t/text"
printf 'a\000b' >"$t/nul"
line 65 'nul: a NUL at byte 1, where the rules of existing engines end a text' -m fixtures/tiny/ds4-tiny-q4k.gguf -o "$t/x" "$t/nul"
expect 0 "$bin" model tokenize -m fixtures/tiny/ds4-tiny-q4k.gguf --pre hf -o "$t/ids" "$t/nul"
mkfifo "$t/pipe"
line 64 'a device or a pipe, wanted a file' -m fixtures/tiny/ds4-tiny-q4k.gguf -o "$t/pipe" "$t/ids"
