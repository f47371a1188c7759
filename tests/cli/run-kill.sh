#!/bin/sh
# run-kill.sh BIN [COUNT [SEED]]: kills runs of ref and vk (SIGKILL) at random moments, COUNT in all
# (default 6; `make check-kill` 300). Whenever a run is killed, what stands under its name is the old
# file or a complete one with the bits of an uninterrupted run, what stands beside it opens as partial
# or not at all, and the next run goes on with it and ends with those bits.
. tests/cli_lib.sh
count=${2:-6} seed=${3:-1}
engines=ref
if "$bin" info --device | grep -q '^device 0'; then
    engines="ref vk"
elif [ "${REQUIRE_GPU:-0}" = 1 ]; then
    die "no Vulkan device"
fi
now() { date +%s%N; }
run() ( # ENGINE FILE; one process, so that in the background its id is the program's
    exec "$bin" run -m "$model" --engine "$1" --dump boundary --plan strict \
        --fixtures short_italian_fact,short_code_completion,short_reasoning_plain -o "$2"
)

for engine in $engines; do
    begin=$(now)
    run $engine "$t/$engine.h5" >/dev/null
    took_us=$((($(now) - begin) / 1000))
    "$bin" info --digest "$t/$engine.h5" >"$t/$engine.txt"
    "$bin" info --digest "$t/$engine.h5" | grep -q . || die "$engine: no digests"
    n=$((count / $(echo $engines | wc -w)))
    # The clock only chooses the moments: up to a quarter past the length of the run.
    awk -v n=$n -v us=$took_us -v seed=$seed 'BEGIN {
        srand(seed)
        for (i = 0; i < n; i++) printf "%.6f\n", rand() * 1.25 * us / 1e6
    }' >"$t/moments"
    rm -f "$t/run.h5" "$t/run.h5.partial"
    none=0 kept=0 ended=0
    while read -r moment; do
        what="$engine, killed after $moment s (seed $seed)"
        rm -f "$t/run.h5.partial"
        echo old >"$t/run.h5"
        run $engine "$t/run.h5" >"$t/log" 2>&1 &
        pid=$!
        sleep "$moment"
        kill -KILL $pid 2>/dev/null || true
        status=0
        wait $pid 2>/dev/null || status=$?
        if [ $status != 0 ] && [ $status != 137 ]; then die "$what: exit $status: $(cat "$t/log")"; fi
        if [ "$(head -c 4 "$t/run.h5")" = "old" ]; then
            [ $status = 137 ] || die "$what: success without a file"
            if [ -e "$t/run.h5.partial" ]; then
                kept=$((kept + 1))
                expect 65 "$bin" info "$t/run.h5.partial"
            else
                none=$((none + 1))
            fi
        else
            ended=$((ended + 1))
            expect 0 "$bin" info --digest "$t/run.h5"
            cmp -s "$t/out" "$t/$engine.txt" || die "$what: complete, with other bits"
            [ ! -e "$t/run.h5.partial" ] || die "$what: complete, and a partial file beside it"
        fi
        run $engine "$t/run.h5" >/dev/null 2>"$t/log" || die "$what: no next run: $(cat "$t/log")"
        "$bin" info --digest "$t/run.h5" >"$t/resumed.txt"
        cmp -s "$t/resumed.txt" "$t/$engine.txt" || die "$what: the next run has other bits"
        [ ! -e "$t/run.h5.partial" ] || die "$what: the partial file stayed"
    done <"$t/moments"
    echo "$engine: $n runs killed: $none before a file, $kept with a partial one, $ended complete"
done
