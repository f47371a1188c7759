#!/bin/sh
# Matmul routes: each alone and all together against strict, by setting, environment and profile. The
# ledger must show the route's rows at exactly the calls, layers and taps asked for and nowhere else;
# a route that never executed is not exercised, and its run has the bits of strict.
. tests/cli_lib.sh

# run OUT OPTION...: one short fixture, 17 tokens of prefill and 4 of decode.
run() {
    out=$1
    shift
    expect 0 "$bin" run -m "$model" --dump logits --fixtures short_italian_fact -o "$t/$out.h5" --fresh "$@"
}

# ledger RUN: layer, tap and phase of its calls by a row that PATTERN names.
ledger() {
    "$bin" info --ledger "$t/$1.h5" | awk -v rows="$2" '$3 ~ /^matmul/ && $5 ~ "^(" rows ")$" { print $1, $2, $4 }' | sort
}

# ran RUN LAYERS TAPS: f16 rows ran in prefill at these taps in these layers (patterns) and nowhere else.
ran() {
    ledger "$1" f16 >"$t/found"
    ledger strict strict | awk -v layers="$2" -v taps="$3" \
        '$1 ~ "^(" layers ")$" && $2 ~ "^(" taps ")$" && $3 == "prefill"' >"$t/wanted"
    cmp -s "$t/found" "$t/wanted" || {
        diff "$t/found" "$t/wanted" >&2 || true
        die "$1: f16 rows ran elsewhere than in layers $2, taps $3"
    }
}

# taps ROUTE: its taps as a pattern.
taps() {
    "$bin" info --taps | awk -v route="$1" '$5 == route { printf "%s%s", join, $1; join = "|" }'
}

run strict --plan strict
routes='dense attn_out_low f16_mixer f16_compressor f16_indexer f16_router moe_gate moe_up moe_down output'
all=
for route in $routes; do
    of=$(taps "$route")
    all="$all|$of"
    run "$route" --plan strict --route "$route=f16/tok=9-"
    ran "$route" '.*' "$of"
    [ -s "$t/found" ] || die "$route: nothing ran"
    # The indexer's scores choose among rows that a text so short takes all.
    if [ "$route" = f16_indexer ]; then
        expect 0 "$bin" compare "$t/strict.h5" "$t/$route.h5"
        says "same bits"
    else
        expect 1 "$bin" compare "$t/strict.h5" "$t/$route.h5"
        says "drift: first at"
    fi
    expect 0 "$bin" info --facts "$t/$route.h5"
    says "$route=f16/tok=9-"
    says "$route:command line"
done
run all --plan strict --route all=f16/tok=9-
ran all '.*' "${all#|}"
expect 0 "$bin" info --routes "$t/all.h5"
grep -q '^output  *1 of 5$' "$t/out" || die "the output head ran otherwise than once of five times"

# Planted: `ran` must see a call too many, a layer too few and a tap that is not there.
for planted in 'dense .* q_low' 'dense [0-4] .*' 'moe_up .* moe_down'; do
    # shellcheck disable=SC2086
    if (ran $planted) 2>/dev/null; then die "ran: accepts $planted"; fi
done

# Windows: layers, taps, both; the narrower variable wins, the command line wins over it.
run window --plan strict --route 'dense=on@1-2+4/tap=q_low+shared_out'
ran window '1|2|4' 'q_low|shared_out'
DS4_ROUTE_MOE=f16@3-/tok=9- DS4_ROUTE_MOE_UP=off
export DS4_ROUTE_MOE DS4_ROUTE_MOE_UP
run environment --plan strict --route output=on
ran environment '[3-5]|out' 'moe_gate|moe_down|logits'
expect 0 "$bin" info --facts "$t/environment.h5"
says 'moe_gate=f16@3-/tok=9- moe_up=off moe_down=f16@3-/tok=9- output=on'
says 'moe_gate:environment moe_up:environment moe_down:environment output:command line'
unset DS4_ROUTE_MOE DS4_ROUTE_MOE_UP
# Positions: of two batches of 10 tokens the second begins at 10, which is neither 1 nor 100.
run position --plan strict --chunk 10 --decode 0 --route 'dense=on@2/tap=q_low/pos=10'
expect 0 "$bin" info --routes "$t/position.h5"
says 'q_low, f16 refused: outside the positions that the plan wants for the row'
"$bin" info --ledger "$t/position.h5" | awk '$5 == "f16" { print $1, $2, $6, $7 }' >"$t/found"
[ "$(cat "$t/found")" = '2 q_low Q8_0 1' ] || die "pos=10 is one batch of two: $(cat "$t/found")"
run position-other --plan strict --chunk 10 --decode 0 --route 'dense=on@2/tap=q_low/pos=1-9+11+100'
[ -z "$(ledger position-other f16)" ] || die "pos=1-9+11+100 ran where batches begin at 0, 10 and 20"

# A route whose condition never held is not exercised, and its bits are those of strict.
run never --plan strict --route moe=on
[ -z "$(ledger never f16)" ] || die "moe ran below 32 tokens"
expect 2 "$bin" compare "$t/strict.h5" "$t/never.h5"
says "both sides executed the same rows"
expect 0 "$bin" info --routes "$t/never.h5"
grep -q '^moe_gate  *not exercised$' "$t/out" || die "moe_gate is not called not exercised"
# Equal plans by two ways are one plan: the settings are only where it came from.
run by-plan --plan strict --set 'route:dense@1=f16/tok=9-'
run by-route --plan strict --route dense=on@1
expect 2 "$bin" compare "$t/by-plan.h5" "$t/by-route.h5"
says "same bits"
for r in by-plan by-route; do "$bin" info --facts "$t/$r.h5" | sed -n '/^plan  /,/^variants  /p' >"$t/$r"; done
cmp "$t/by-plan" "$t/by-route" || die "--set and --route made two plans"

# Profiles: printed, changed, given back.
expect 0 "$bin" info --profiles
sed 's/^all=off$/dense=on@0/' "$t/out" >"$t/mine.profiles"
run profile --plan strict --profile "$t/mine.profiles"
expect 0 "$bin" info --facts "$t/profile.h5"
says "generic, $t/mine.profiles, xxh3-128:"
says 'dense:profile'
run no-profile --plan strict
expect 0 "$bin" info --facts "$t/no-profile.h5"
grep -q '^profile  *none$' "$t/out" || die "a strict run has a profile"

# What is not understood: one line that names it, exit 64, and no file.
bad() {
    words=$1
    shift
    expect 64 "$bin" run -m "$model" --fixtures short_italian_fact -o "$t/bad.h5" "$@"
    says "$words"
    [ ! -e "$t/bad.h5" ] && [ ! -e "$t/bad.h5.partial" ] || die "a file was left: $*"
}
bad 'layers "0-25,27-28"' --route dense=on@0-25,27-28
bad 'found "pos=512,1024"' --route dense=on/pos=512,1024
bad '"attn_q" is no tap of route dense' --route dense=on/tap=attn_q
bad 'the nearest is dense' --route dence=on
bad 'no built-in profile is called "nvidai"; the nearest is nvidia' --profile nvidai
DS4_ROUTE_DENCE=on
export DS4_ROUTE_DENCE
bad 'DS4_ROUTE_DENCE: no such variable; the nearest is DS4_ROUTE_DENSE'
unset DS4_ROUTE_DENCE
DS4_METAL_MPP_Q8_0_FILTER=layer=0-25,27-28
export DS4_METAL_MPP_Q8_0_FILTER
bad 'DS4_METAL_MPP_Q8_0_FILTER: found "27-28", wanted all, none, layer=N'
unset DS4_METAL_MPP_Q8_0_FILTER

# A route as toggles: one per layer, the guilty ones found among them.
expect 1 "$bin" bisect -m "$model" --fixtures short_italian_fact --evidence none --toggle route:moe_gate \
    --route 'moe_gate=f16@2+4/tok=9-'
says 'guilty route:moe_gate@2=f16/tok=9-'
says 'guilty route:moe_gate@4=f16/tok=9-'
says 'toggles: 2 guilty, 0 cleared, 0 not exercised'
expect 2 "$bin" bisect -m "$model" --fixtures short_italian_fact --evidence none --toggle route:moe
says 'not comparable: not exercised'
expect 64 "$bin" bisect -m "$model" --fixtures short_italian_fact --toggle route:moe_gat
says 'the nearest is moe_gate'

# On the Vulkan engine: the same calls, and the default plan follows the profile of the device.
need_device
run strict --engine vk --plan strict
run vk --engine vk --plan strict --route all=f16/tok=9-
ran vk '.*' "${all#|}"
expect 1 "$bin" compare "$t/strict.h5" "$t/vk.h5"
run vk-window --engine vk --route all=off --route 'moe_down=f16@1-3/tok=9-'
ran vk-window '[1-3]' 'moe_down'
expect 0 "$bin" info --facts "$t/vk-window.h5"
says ', built-in, xxh3-128:'
