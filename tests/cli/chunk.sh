#!/bin/sh
# Prefill in chunks of up to 4096 tokens on the Vulkan engine: a prompt of 160 tokens in as few batches as
# there can be (two: the indexer's choice begins within it) gives at every tap the bits of the
# reference in chunks of 32.
. tests/cli_lib.sh
need_device
awk 'BEGIN { for (i = 0; i < 160; i++) { s = (s * 1103515245 + 12345) % 2147483648; print int(s / 65536) % 200 } }' >"$t/tokens"
expect 0 "$bin" run -m "$model" --engine ref --plan strict --tokens "$t/tokens" --chunk 32 --dump hash -o "$t/ref.h5"
expect 0 "$bin" run -m "$model" --engine vk --plan strict --tokens "$t/tokens" --chunk 4096 --dump hash -o "$t/vk.h5"
expect 0 "$bin" compare "$t/ref.h5" "$t/vk.h5"
says "same bits"
says "0 different, 0 missing"
# The batches were that long.
for side in "vk 2" "ref 6"; do
    expect 0 "$bin" info --ledger "$t/${side% *}.h5"
    grep -qE "embed +prefill.* ${side#* } calls" "$t/out" || die "${side% *}: not ${side#* } calls of embed"
done
