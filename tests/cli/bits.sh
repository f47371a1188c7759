#!/bin/sh
# The digests of `make check-bits` are those of the program's own runs.
. tests/cli_lib.sh
expect 0 sh tests/check_bits.sh --self-test
expect 0 sh tests/check_bits.sh --same "$bin"
says "cells agree"
