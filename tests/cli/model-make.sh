#!/bin/sh
# model make: files that info and verify accept, equal bytes for equal options, the layout of the
# real dimensions, and what it refuses.
. tests/cli_lib.sh

expect 0 "$bin" model make -o "$t/a.gguf"
says '178 tensors, 8741696 bytes'
expect 0 "$bin" model verify "$t/a.gguf"
says '178 tensors, configuration, tokenizer and values are sound'
expect 0 "$bin" model info "$t/a.gguf"
says 'layers 6, width 256, vocabulary 512'
says 'file 8741696 bytes, tensors 8720356 bytes'
says 'weights read per decoded token, selection included: 6350588 bytes'
says 'multiply-adds with weights per token: 6539264'
says 'cache at context 4096: 2826240 bytes'

# Equal options, equal bytes; one of them changed, others.
expect 0 "$bin" model make --seed 1 --quant q2 --shape tiny -o "$t/b.gguf"
cmp -s "$t/a.gguf" "$t/b.gguf" || die "two files of one seed differ"
expect 0 "$bin" model make --seed 2 -o "$t/b.gguf"
if cmp -s "$t/a.gguf" "$t/b.gguf"; then die "another seed gave the same bytes"; fi

# Single dimensions, shared layers, and a run of it: prefill and decode agree.
expect 0 "$bin" model make --layers 8 --heads 6 --groups 3 --vocab 400 --quant q4k --share-layers -o "$t/c.gguf"
expect 0 "$bin" model verify "$t/c.gguf"
expect 0 "$bin" model info "$t/c.gguf"
says 'layers 8, width 256, vocabulary 400'
says '(overlapping)'
expect 0 "$bin" run -m "$t/c.gguf" --prompt 'the end of the window and what came before' -o "$t/p.h5"
expect 0 "$bin" run -m "$t/c.gguf" --prompt 'the end of the window and what came before' --decode 20 -o "$t/d.h5"
expect 0 "$bin" compare "$t/p.h5" "$t/d.h5"

# The last element of a shared layer's window, which no other layer has, is looked at too.
expect 0 "$bin" model make --share-layers --dry-run
place=$(sed -n 's/^blk\.5\.ffn_norm\.weight .* at \([0-9]*\), \([0-9]*\) bytes$/\1 + \2 - 4/p' "$t/out")
head=$(sed -n 's/^file .* data from byte \([0-9]*\),.*/\1/p' "$t/out")
[ -n "$place" ] && [ -n "$head" ] || die "no place of blk.5.ffn_norm.weight"
expect 0 "$bin" model make --share-layers -o "$t/e.gguf"
expect 0 "$bin" model verify "$t/e.gguf"
printf '\000\000\300\177' | dd of="$t/e.gguf" bs=1 seek=$(($head + $place)) conv=notrunc 2>/dev/null
expect 65 "$bin" model verify "$t/e.gguf"
says 'tensor blk.5.ffn_norm.weight: element 255 is not finite'

# The real dimensions, laid out and not written: model.md section 6 has the cache.
for q in q2 q4k; do
    expect 0 "$bin" model make --shape flash --share-layers --quant $q --dry-run
    [ "$(grep -c ' at [0-9]*, [0-9]* bytes$' "$t/out")" = 1328 ] || die "wanted 1328 tensors"
    awk '/ at [0-9]*, / { sub(/.* at /, ""); if ($1 % 32) exit 1 }' "$t/out" || die "an offset off the alignment"
    says 'layers 43, width 4096, vocabulary 129280'
    says 'cache at context 4096: 67822592 bytes'
    says 'cache at context 1048576: 14439867392 bytes'
    file=$(sed -n 's/^file \([0-9]*\) bytes.*/\1/p' "$t/out")
    [ "$file" -lt 6000000000 ] || die "flash $q takes $file bytes"
done

# line CODE TEXT ARGUMENT...: exits with CODE, prints TEXT, leaves no file.
line() {
    code=$1 text=$2
    shift 2
    expect "$code" "$bin" model "$@"
    says "$text"
    [ ! -e "$t/x.gguf" ] && [ ! -e "$t/x.gguf.partial" ] || die "left a file: $*"
}

# Lists and constants; equal defaults said aloud give equal bytes.
expect 0 "$bin" model make --ratios 0,0,4,128,4,128 --clamp 10 --rope-base 10000 --yarn-context 65536 -o "$t/b.gguf"
cmp -s "$t/a.gguf" "$t/b.gguf" || die "the defaults said aloud give other bytes"
for q in q2k iq2 q4k-iq2; do
    expect 0 "$bin" model make --quant $q --no-bias 3,5 --hash-bias --clamp 1,2,0,4,5,6.5 --ratios 0,4,16,4,128,0 \
        --rms-eps 1e-5 --hc-eps 1e-4 --expert-scale 2.5 --rope-base-compressed 777.5 --yarn-factor 3.7 \
        --yarn-beta-fast 20 --yarn-beta-slow 2 -o "$t/c.gguf"
    expect 0 "$bin" model verify "$t/c.gguf"
    says '179 tensors, '
done
expect 0 "$bin" model info "$t/c.gguf"
says 'compression ratios 0 4 16 4 128 0'
expect 0 "$bin" model make --no-bias all --dry-run
if grep -q 'exp_probs_b' "$t/out"; then die "a bias in spite of --no-bias all"; fi

line 64 'no output: give -o FILE' make
line 64 'give a verb' --
line 64 'wanted info, verify, make or tokenize' unmake "$t/a.gguf"
line 64 'make takes its file as -o FILE' make "$t/x.gguf"
line 64 'info takes no options' info "$t/a.gguf" --layers 4
line 64 'verify: no file' verify
line 64 'shape is "huge", wanted tiny, small or flash' make --shape huge -o "$t/x.gguf"
line 64 'quant is "q3", wanted q2 or q4k' make --quant q3 -o "$t/x.gguf"
line 64 'dimension width is 100, wanted a multiple of 256 from 256 to 65536' make --width 100 -o "$t/x.gguf"
line 64 'dimension layers is 4000000000, wanted 1 to 256' make --layers 4000000000 -o "$t/x.gguf"
line 64 'dimension used is 9, wanted at most experts, 8' make --used 9 -o "$t/x.gguf"
line 64 'ratios: "0,4" has 2 numbers, wanted one per layer, 6' make --ratios 0,4 -o "$t/x.gguf"
line 64 'ratios: "0,0,4,1.5,4,8": 1.5 is no whole number' make --ratios 0,0,4,1.5,4,8 -o "$t/x.gguf"
line 64 'ratios: "0,,4": wanted numbers from 0 to 4096' make --ratios 0,,4 -o "$t/x.gguf"
line 64 'clamp: "1,2" has 2 numbers, wanted one, or one per layer, 6' make --clamp 1,2 -o "$t/x.gguf"
line 64 'clamp: "-1": wanted numbers from 0 to 1e+09' make --clamp=-1 -o "$t/x.gguf"
line 64 'no-bias: "6": wanted numbers from 0 to 5' make --no-bias 6 -o "$t/x.gguf"
line 64 'constant yarn-factor is 0, wanted more than 0' make --yarn-factor 0 -o "$t/x.gguf"
line 64 'rope-base: found "x"' make --rope-base x -o "$t/x.gguf"
line 64 'width: found "-1"' make --width=-1 -o "$t/x.gguf"
line 64 'width: found "99999999999999999999"' make --width 99999999999999999999 -o "$t/x.gguf"
line 74 'cannot create' make -o "$t/none/x.gguf"
mkdir "$t/dir"
line 74 'cannot rename' make -o "$t/dir"
[ ! -e "$t/dir.partial" ] || die "left a partial file"
# A disk that ends: the limit on the size of a file acts like one.
(
    trap '' XFSZ
    ulimit -f 100
    line 74 'cannot ' make -o "$t/x.gguf"
)
