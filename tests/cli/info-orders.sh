#!/bin/sh
# Orders of sums, found by probing: what ops.h states of the reference and of f64, the random order
# of the noise rows, and the rows of the device, of which every one runs or says why not.
. tests/cli_lib.sh
expect 0 "$bin" info --orders ref
says "matmul strict             pairwise, halves first; 24 bits, to nearest"
says "matmul order              no fixed tree"
expect 0 "$bin" info --orders ref64
says "matmul f64                pairwise, halves first; at least 29 bits"
expect 64 "$bin" info --orders nothing
need_device
expect 0 "$bin" info --orders vk
says "matmul strict             pairwise, halves first; 24 bits, to nearest"
says "matmul coop_staged        "
