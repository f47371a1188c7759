/* engine/routes.h and engine/profile.h: the grammar of a setting and its refusals, among them
 * the four traps of substring filters; what a setting makes of a plan; the environment, ours
 * and that of existing engines; profiles. A setting is compared with the edit of a plan that
 * says the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/ref/ref.h"
#include "engine/vk/vk.h"
#include "tests/support.h"

enum { N_LAYER = 43 };
static ds4_backend *ref;

static ds4_plan *edited(const char *text) {
    ds4_plan *p = NULL;
    ds4_err err;
    uint32_t bits = 0;
    for (int v = 0; v < DS4_VARIANT_COUNT; v++) bits |= (uint32_t)ds4_variant_table[v].def << v;
    test_ok(ds4_plan_new(&p, ref, N_LAYER, bits, &err), &err);
    test_ok(ds4_plan_edit(p, text, &err), &err);
    return p;
}

static char *text_of(const ds4_plan *p) {
    char *text = NULL;
    ds4_err err;
    test_ok(ds4_plan_text(p, &text, &err), &err);
    return text;
}

/* Settings in force on a plan that wants `before` must make it the plan `after`. */
static void makes(const ds4_routes *r, const char *before, const char *after) {
    ds4_plan *p = edited(before), *q = edited(after);
    ds4_err err;
    test_ok(ds4_routes_apply(p, r, &err), &err);
    char *a = text_of(p), *b = text_of(q);
    assert_string_equal(a, b);
    ds4_mem_free(a), ds4_mem_free(b);
    ds4_plan_free(p), ds4_plan_free(q);
}

/* "TARGET=SETTING" from the command line. */
static void sets(const char *text, const char *before, const char *after) {
    ds4_routes r = {0};
    ds4_err err;
    test_ok(ds4_routes_set_text(&r, text, DS4_ROUTE_COMMAND, "--route", &err), &err);
    makes(&r, before, after);
    ds4_routes_fini(&r);
}

/* A text that is refused, when it is set or at the latest when a plan is made of it. */
static void refuse(const char *text, const char *words) {
    ds4_routes r = {0};
    ds4_plan *p = edited("");
    ds4_err err = {0};
    ds4_status st = ds4_routes_set_text(&r, text, DS4_ROUTE_COMMAND, "--route", &err);
    if (st == DS4_OK) st = ds4_routes_apply(p, &r, &err);
    if (st != DS4_ERR_USAGE || !strstr(err.message, words) || !strstr(err.message, "--route"))
        fail_msg("\"%s\" gave %d \"%s\", wanted \"%s\"", text, (int)st,
                 st == DS4_OK ? "" : err.message, words);
    ds4_plan_free(p);
    ds4_routes_fini(&r);
}

/* ---- the tables ---- */

static bool is_route_row(const char *name) {
    for (uint32_t i = 0; ds4_route_row(i); i++)
        if (!strcmp(name, ds4_route_row(i))) return true;
    return false;
}

static void test_routes_are_those_of_the_taps(void **state) {
    (void)state;
    int n_tap[DS4_ROUTE_COUNT] = {0};
    for (int t = 0; t < DS4_TAP_COUNT; t++) {
        const ds4_tap_info *i = &ds4_tap_table[t];
        bool product = i->op == DS4_OP_matmul || i->op == DS4_OP_matmul_id;
        int r = ds4_route_find(i->route);
        if (product != (r >= 0)) fail_msg("%s: route %s", i->name, i->route);
        if (r >= 0) n_tap[r]++;
        for (int u = 0; r >= 0 && u < t; u++) /* one op per route */
            if (!strcmp(ds4_tap_table[u].route, i->route))
                assert_int_equal(ds4_tap_table[u].op, i->op);
    }
    for (int r = 0; r < DS4_ROUTE_COUNT; r++) {
        const ds4_route_info *i = &ds4_route_table[r];
        if (!n_tap[r]) fail_msg("route %s has no tap", i->name);
        assert_int_equal(ds4_route_find(i->group), -1);
        char rows[128], *rest = rows;
        snprintf(rows, sizeof rows, "%s", i->rows);
        for (char *row; (row = strsep(&rest, ","));) assert_true(is_route_row(row));
    }
}

/* Rows with f16-staged operands are what routes switch: `off` must know them all. */
static void test_routes_know_every_tensor_row(void **state) {
    (void)state;
    static const ds4_op op[] = {DS4_OP_matmul, DS4_OP_matmul_id};
    ds4_vk_options vo = test_vk_options();
    ds4_backend *at[2] = {ref, NULL};
    ds4_err err;
    if (test_has_device()) test_ok(ds4_vk_open(&at[1], &vo, &err), &err);
    for (int k = 0; k < 2 && at[k]; k++)
        for (int o = 0; o < 2; o++)
            for (uint32_t i = 0; i < at[k]->ops->n_row(at[k], op[o]); i++) {
                const ds4_row_info *row = at[k]->ops->row(at[k], op[o], i);
                if (row->tensor && !is_route_row(row->name))
                    fail_msg("%s row %s is no ROUTE_ROW", at[k]->ops->name, row->name);
            }
    if (at[1]) at[1]->ops->close(at[1]);
}

/* ---- settings ---- */

static void test_routes_settings_edit_the_plan(void **state) {
    (void)state;
    sets("moe_gate=on", "", "moe_gate=f16/tok=32-");
    sets("moe_gate=off", "*=f16", "*=f16;moe_gate=strict");
    sets("moe_gate=off", "*=order,f16", "*=order,f16;moe_gate=order");
    sets("moe_gate=on", "*=f16,order", "*=f16,order;moe_gate=f16/tok=32-,order");
    sets("moe_gate=f16@16-/tok=1-", "*=order", "*=order;moe_gate@16-=f16/tok=1-,order");
    sets("moe=on@0-2+40-", "", "matmul_id@0-2+40-=f16/tok=32-");
    sets("dense=on@3/tap=q_low+kv_lin", "", "q_low@3=f16/tok=9-;kv_lin@3=f16/tok=9-");
    sets("dense=on@3/prefill", "", "route:dense@3/prefill=f16/tok=9-");
    sets("dense=on/decode/tok=1", "", "route:dense/decode=f16/tok=1");
    sets("attn_out_low=on/by=32", "", "attn_low=f16/tok=32-/by=32");
    sets("output=on@out", "", "logits@out=f16/tok=9-");
    sets("output=on@0-", "", "logits@0-=f16/tok=9-");
    sets("moe_up=on/pos=512+1024-2047", "",
         "moe_up=f16/tok=32-/pos=512,f16/tok=32-/pos=1024-2047");
    sets("moe_up=on@15-;on/pos=512", "",
         "moe_up=f16/tok=32-/pos=512;moe_up@15-=f16/tok=32-,f16/tok=32-/pos=512");
    sets("all=off", "*=f16;attention=order", "attention=order");
}

static void test_routes_later_origins_win(void **state) {
    (void)state;
    ds4_routes r = {0};
    ds4_err err;
    test_ok(ds4_routes_set(&r, "moe", "on@5", DS4_ROUTE_COMMAND, "a", &err), &err);
    test_ok(ds4_routes_set(&r, "all", "off", DS4_ROUTE_PROFILE, "b", &err), &err);
    test_ok(ds4_routes_set(&r, "moe_up", "on@6", DS4_ROUTE_ENVIRONMENT, "c", &err), &err);
    test_ok(ds4_routes_set(&r, "moe_down", "on@7", DS4_ROUTE_COMMAND, "d", &err), &err);
    makes(&r, "*=f16",
          "*=f16;matmul=strict;matmul_id=strict;moe_gate@5=f16/tok=32-;moe_up@5=f16/tok=32-;"
          "moe_down@7=f16/tok=32-");
    assert_int_equal(r.at[DS4_ROUTE_dense].origin, DS4_ROUTE_PROFILE);
    assert_string_equal(r.at[DS4_ROUTE_moe_down].by, "d");
    ds4_routes_fini(&r);
}

static void test_routes_malformed_settings_are_refused(void **state) {
    (void)state;
    refuse("dense", "wanted ROUTE=SETTING"), refuse("=on", "wanted ROUTE=SETTING");
    refuse("dence=on", "no route or group is called \"dence\"; the nearest is dense");
    refuse("NONE=on", "\"NONE\""), refuse("moe_=on", "the nearest is moe");
    refuse("dense=", "found \"\""), refuse("dense=On", "found \"On\"");
    refuse("dense=onn", "found \"onn\"");
    refuse("dense=f61", "found \"f61\"");
    refuse("dense=coop_stage", "the nearest is coop_staged");
    refuse("dense=on,f16", "found \"on\""), refuse("dense=f16,", "found \"\"");
    refuse("dense=off@3", "found \"off\""), refuse("dense= on", "found \" on\"");
    refuse("dense=on;", "found \"\""), refuse("dense=on;off", "found \"off\"");
    refuse("dense=on@", "layers \"\""), refuse("dense=on@x", "layers \"x\"");
    refuse("dense=on@43", "layers \"43\", wanted N, N-M or N- within 0-42, or out");
    refuse("dense=on@3+", "layers"), refuse("dense=on@5-3", "layers \"5-3\"");
    refuse("dense=on/prefil", "found \"prefil\"");
    refuse("dense=on/prefil", "the nearest is prefill");
    refuse("dense=on/prefill/decode", "\"decode\" is a second such part");
    refuse("dense=on/tok=", "found \"tok=\""), refuse("dense=on/tok=9+", "found \"tok=9+\"");
    refuse("dense=on/tok=9-8", "tok=9-8"), refuse("dense=on/by=1", "by=1");
    refuse("dense=on/tok=1/tok=2", "\"tok=2\" is a second such part");
    refuse("dense=on/tap=", "found \"tap=\"");
    refuse("dense=on/tap=q_low+", "\"\" is no tap of route dense");
    refuse("dense=on/tap=logits", "\"logits\" is no tap of route dense");
    refuse("dense=on#x", "found \"on#x\""), refuse("dense=on\nmoe=on", "moe=on\"");
    refuse("dense=q8dot", "engine ref has no row \"q8dot\" for route dense");
    refuse("moe=on@9/tap=moe_gate", "\"moe_gate\" is no tap of route moe_up");
    char text[4096];
    memset(text, '1', sizeof text), memcpy(text, "dense=on@", 9), text[sizeof text - 1] = 0;
    refuse(text, "a setting of 4089 bytes");
}

/* `pos=512` is one position. */
static void test_routes_trap_position_is_no_prefix(void **state) {
    (void)state;
    ds4_routes r = {0};
    ds4_plan *p = edited("");
    ds4_err err;
    test_ok(ds4_routes_set(&r, "dense", "on/pos=512", DS4_ROUTE_COMMAND, "x", &err), &err);
    test_ok(ds4_routes_apply(p, &r, &err), &err);
    ds4_cell c = ds4_plan_cell(p, DS4_TAP_q_low, 0, DS4_PREFILL);
    assert_null(ds4_when_refuses(&c.when[0], 64, 512));
    assert_non_null(ds4_when_refuses(&c.when[0], 64, 5120));
    assert_non_null(ds4_when_refuses(&c.when[0], 64, 51));
    ds4_plan_free(p);
    ds4_routes_fini(&r);
    refuse("dense=on/pos=512,1024", "found \"pos=512,1024\"");
    refuse("dense=on/pos=512,f16", "found \"pos=512,f16\"");
    refuse("dense=on/tok=9-,f16", "found \"tok=9-,f16\"");
}

/* A tap is a whole name: `kv` means none, `shared_` means none. */
static void test_routes_trap_module_is_no_part_of_a_name(void **state) {
    (void)state;
    sets("dense=on/tap=attn_out", "", "attn_out=f16/tok=9-");
    refuse("dense=on/tap=q", "\"q\" is no tap of route dense");
    refuse("dense=on/tap=shared_", "\"shared_\" is no tap of route dense");
    refuse("dense=on/tap=attn_q", "\"attn_q\" is no tap of route dense");
}

static void test_routes_trap_list_of_layers_is_no_substring(void **state) {
    (void)state;
    refuse("dense=on@0-25,27-28", "layers \"0-25,27-28\", wanted N, N-M, N- or out");
    refuse("dense=on@layer=0-25", "layers \"layer=0-25\"");
    sets("dense=on@0-25+27-28", "", "route:dense@0-25+27-28=f16/tok=9-");
}

/* 63 bytes were all that counted of a word. */
static void test_routes_trap_long_text_is_read_to_its_end(void **state) {
    (void)state;
    char text[512] =
        "dense=on/tap=q_low+q_lin+kv_lin+attn_out+shared_gate+shared_up+shared_out";
    assert_true(strlen(text) > 70);
    sets(text, "", "route:dense=f16/tok=9-");
    strcat(text, "+q_lowx");
    refuse(text, "\"q_lowx\" is no tap of route dense; the nearest is q_low");
    strcpy(text, "dense=on@0");
    for (int il = 1; il < 43; il++) sprintf(text + strlen(text), "+%d", il);
    sets(text, "", "route:dense@0-42=f16/tok=9-");
    strcat(text, "+43");
    refuse(text, "layers \"43\"");
}

/* ---- the environment ---- */

extern char **environ;

static void clear_environment(void) {
    for (bool found = true; found;) {
        found = false;
        for (char **e = environ; *e && !found; e++) {
            char name[256];
            if (strncmp(*e, "DS4_ROUTE", 9) && strncmp(*e, "DS4_METAL", 9)) continue;
            snprintf(name, sizeof name, "%.*s", (int)strcspn(*e, "="), *e);
            unsetenv(name), found = true;
        }
    }
}

/* "NAME=VALUE NAME=VALUE" as the environment. */
static void set_environment(const char *text) {
    char *copy = strdup(text), *save = NULL;
    clear_environment();
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        char *eq = strchr(w, '=');
        *eq = 0;
        setenv(w, eq + 1, 1);
    }
    free(copy);
}

static void env_sets(const char *text, const char *after) {
    ds4_routes r = {0};
    ds4_variant_set set;
    ds4_err err;
    set_environment(text);
    test_ok(ds4_variants_from_env(&set, false, &err), &err);
    test_ok(ds4_routes_from_env(&r, false, &err), &err);
    makes(&r, "", after);
    ds4_routes_fini(&r);
    clear_environment();
}

/* As an engine reads it: names first, then what they say. */
static void env_refuse(const char *text, const char *words) {
    ds4_routes r = {0};
    ds4_variant_set set;
    ds4_err err = {0};
    set_environment(text);
    ds4_status st = ds4_variants_from_env(&set, false, &err);
    if (st == DS4_OK) st = ds4_routes_from_env(&r, false, &err);
    if (st != DS4_ERR_USAGE || !strstr(err.message, words))
        fail_msg("%s gave %d \"%s\", wanted \"%s\"", text, (int)st,
                 st == DS4_OK ? "" : err.message, words);
    ds4_routes_fini(&r);
    clear_environment();
}

static void test_routes_environment_is_read(void **state) {
    (void)state;
    env_sets("DS4_ROUTE_MOE_GATE=on@3", "moe_gate@3=f16/tok=32-");
    env_sets("DS4_ROUTE_MOE_GATE=off DS4_ROUTE_MOE=on@3",
             "moe_up@3=f16/tok=32-;moe_down@3=f16/tok=32-");
    env_sets("DS4_ROUTE_ALL=off DS4_ROUTE_F16=on@2 DS4_ROUTE_F16_ROUTER=on@3",
             "route:f16_mixer@2=f16/tok=9-;route:f16_compressor@2=f16/tok=9-;"
             "route:f16_indexer@2=f16/tok=9-;router_logit@3=f16/tok=9-");
    env_refuse("DS4_ROUTE_DENCE=on", "DS4_ROUTE_DENCE: no such variable; the nearest is "
                                     "DS4_ROUTE_DENSE");
    env_refuse("DS4_ROUTE_NONE=on", "DS4_ROUTE_NONE: no such variable");
    env_refuse("DS4_ROUTE_dense=on", "no such variable; the nearest is DS4_ROUTE_DENSE");
    env_refuse("DS4_ROUTE_DENSE=", "DS4_ROUTE_DENSE: found \"\"");
    env_refuse("DS4_ROUTE_DENSE=1", "DS4_ROUTE_DENSE: found \"1\"");
    env_refuse("DS4_ROUTE_MOE=on/tap=moe_gate",
               "DS4_ROUTE_MOE: \"moe_gate\" is no tap of route");
    char name[256];
    snprintf(name, sizeof name, "DS4_ROUTE_%0200d=on", 0);
    env_refuse(name, "no variable has so long a name");
}

static void test_routes_variables_of_existing_engines_are_read(void **state) {
    (void)state;
    env_sets("DS4_METAL_MPP_MOE_ENABLE=1", "matmul_id=f16/tok=32-");
    env_sets("DS4_METAL_MPP_MOE_DISABLE=no", "matmul_id=f16/tok=32-");
    env_sets("DS4_METAL_MPP_ENABLE=1 DS4_METAL_MPP_MOE_DISABLE=1",
             "route:dense=f16/tok=9-;route:f16_compressor=f16/tok=9-;attn_low=f16/tok=32-");
    env_sets("DS4_METAL_MPP_MOE_GATE_START_LAYER=16", "moe_gate@16-=f16/tok=32-");
    env_sets("DS4_METAL_MPP_MOE_GATE_START_LAYER=16 DS4_METAL_MPP_MOE_GATE_ENABLE=0", "");
    env_sets("DS4_METAL_MPP_FAST=0 DS4_METAL_EXPERIMENTAL_MOE_MATMUL=1",
             "matmul_id=f16/tok=32-");
    env_sets("DS4_METAL_EXPERIMENTAL_MOE_MATMUL_START_LAYER=2", "matmul_id@2-=f16/tok=32-");
    env_sets("DS4_METAL_MPP_Q8_0_FILTER=all", "route:dense=f16/tok=9-");
    env_sets("DS4_METAL_MPP_Q8_0_FILTER=none", "");
    env_sets("DS4_METAL_MPP_Q8_0_FILTER=layer=0-25,layer:27..28,attn_q_a@layer=30",
             "route:dense@0-25+27-28=f16/tok=9-;q_low@30=f16/tok=9-");
    env_sets("DS4_METAL_MPP_Q8_0_FILTER=shared_down,pos=512",
             "route:dense=f16/tok=9-/pos=512;shared_out=f16/tok=9-,f16/tok=9-/pos=512");
    env_sets("DS4_METAL_MPP_MOE_FILTER=moe_up", "moe_up=f16/tok=32-");
    env_sets(
        "DS4_METAL_MPP_Q8_0_FILTER=layer=1,layer=3,layer=5,layer=7,layer=9,layer=11,layer=13,"
        "layer=15,layer=17,layer=19,layer=21,layer=23,layer=25,layer=27,layer=29,layer=31,"
        "layer=33,layer=35,layer=37,layer=39,layer=41",
        "route:dense@1+3+5+7+9+11+13+15+17+19+21+23+25+27+29+31+33+35+37+39+41=f16/tok=9-");
}

static void test_routes_doubtful_variables_are_refused(void **state) {
    (void)state;
    env_refuse("DS4_METAL_MPP_Q8_0_FILTER=layer=0-25,27-28",
               "found \"27-28\", wanted all, none");
    env_refuse("DS4_METAL_MPP_Q8_0_FILTER=attn_q", "the nearest is attn_q_a");
    env_refuse("DS4_METAL_MPP_Q8_0_FILTER=pos=512x", "found \"pos=512x\", wanted pos=N");
    env_refuse("DS4_METAL_MPP_Q8_0_FILTER=layer=", "found \"layer=\"");
    env_refuse("DS4_METAL_MPP_Q8_0_FILTER=layer=3-", "found \"layer=3-\"");
    env_refuse("DS4_METAL_MPP_Q8_0_FILTER=late_safe", "found \"late_safe\"");
    env_refuse("DS4_METAL_MPP_Q8_0_FILTER=all,layer=3", "found \"all\"");
    env_refuse("DS4_METAL_MPP_Q8_0_FILTER=", "found \"\"");
    env_refuse(
        "DS4_METAL_MPP_Q8_0_FILTER=attn_q_b,attn_q_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
        "bbbbbbbbbbbbbbbbbbbbbbbb",
        "found \"attn_q_bbbb");
    env_refuse("DS4_METAL_MPP_MOE_START_LAYER=x", "found \"x\", wanted a layer number");
    env_refuse("DS4_METAL_MPP_MOE_ENABLE=maybe", "DS4_METAL_MPP_MOE_ENABLE: found \"maybe\"");
    env_refuse("DS4_METAL_MPP_MOE_ENABLE=1 DS4_METAL_MPP_MOE_DISABLE=1", "disagree");
    env_refuse("DS4_METAL_MPP_MOE_DISABLE=1 DS4_METAL_MPP_MOE_UP_ENABLE=1", "disagree");
    env_refuse("DS4_METAL_MPP_MOE_FILTER=layer=3 DS4_METAL_MPP_MOE_UP_START_LAYER=4",
               "two windows for one route");
    env_refuse("DS4_METAL_MPP_MOE_UP_START_LAYER=4 DS4_ROUTE_MOE_UP=on",
               "DS4_ROUTE_MOE_UP and DS4_METAL_MPP_MOE_UP_START_LAYER disagree");
    env_refuse("DS4_METAL_MPP_Q8_0_TILE_N=64", "DS4_METAL_MPP_Q8_0_TILE_N: not known here");
    env_refuse("DS4_METAL_MPP_Q8_FILTER=all", "the nearest is DS4_METAL_MPP_Q8_0_FILTER");
    env_sets("DS4_METAL_MPP_MOE_UP_START_LAYER=4 DS4_ROUTE_MOE_UP=on@4-",
             "moe_up@4-=f16/tok=32-");
}

/* ---- profiles ---- */

static const char *vendor = "", *driver = "";
static bool fact(const ds4_backend *b, uint32_t i, const char **key, const char **value) {
    (void)b;
    *key = i ? "driver" : "vendor_id", *value = i ? driver : vendor;
    return i < 2;
}

/* A device of that vendor and driver gets that built-in profile. */
static void is_given(const char *with_vendor, const char *with_driver, const char *name) {
    ds4_backend_ops ops = {.name = "vk", .fact = fact};
    ds4_backend b = {&ops};
    ds4_profile p = {.name = ""};
    ds4_routes r = {0};
    ds4_err err;
    vendor = with_vendor, driver = with_driver;
    test_ok(ds4_profile_choose(&p, &r, &b, "auto", "--profile", &err), &err);
    assert_string_equal(p.name, name);
    assert_null(p.file);
    assert_non_null(p.text);
    ds4_profile_fini(&p), ds4_routes_fini(&r);
}

static void test_profile_follows_the_device(void **state) {
    (void)state;
    is_given("0x10005", "llvmpipe", "llvmpipe");
    is_given("0x10de", "NVIDIA", "nvidia"), is_given("0x1002", "radv", "amd");
    is_given("0x8086", "Intel open-source Mesa driver", "intel");
    is_given("0x5143", "turnip", "generic"), is_given("", "", "generic");
}

static ds4_status choose(const char *which, ds4_profile *p, ds4_routes *r, ds4_err *err) {
    return ds4_profile_choose(p, r, ref, which, "--profile", err);
}

/* Every built-in profile reads, and makes a plan of 43 layers. */
static void test_profile_presets_make_plans(void **state) {
    (void)state;
    static const struct {
        const char *name, *after;
    } want[] = {
        {"llvmpipe", ""},
        {"nvidia",
         "matmul=f16/tok=9-;attn_low=f16/tok=32-;matmul_id=f16/tok=32-;logits=strict"},
        {"amd", "matmul=f16/tok=9-;attn_low=f16/tok=32-;matmul_id=f16/tok=32-;logits=strict"},
        {"intel", "matmul=f16/tok=9-;attn_low=f16/tok=32-;matmul_id=f16/tok=32-;logits=strict"},
        {"generic",
         "matmul=f16/tok=9-;attn_low=f16/tok=32-;matmul_id=f16/tok=32-;logits=strict"},
        {"mpp",
         "route:dense@38-42=f16/tok=9-;q_lin@32-37=f16/tok=9-;attn_low=f16/tok=32-/by=32;"
         "moe_gate@16-=f16/tok=32-;moe_up@15-=f16/tok=32-;moe_down@12-=f16/tok=32-"},
        {"mpp-fast", "route:dense=f16/tok=9-;attn_low=f16/tok=32-/by=32;matmul_id=f16/tok=32-"},
        {"mpp-fast-skip-down26-29-30",
         "route:dense=f16/tok=9-;attn_low=f16/tok=32-/by=32;matmul_id=f16/tok=32-;"
         "moe_down@26+29-30+out=strict"},
        {"experimental-moe-matmul", "matmul_id=f16/tok=32-"}};
    ds4_err err;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        ds4_profile p = {.name = ""};
        ds4_routes r = {0};
        test_ok(choose(want[i].name, &p, &r, &err), &err);
        makes(&r, "matmul=f16;matmul_id=f16", want[i].after);
        ds4_profile_fini(&p), ds4_routes_fini(&r);
    }
    /* Chunks that begin at these positions run in all layers, others in the late ones. */
    ds4_profile p = {.name = ""};
    ds4_routes r = {0};
    ds4_plan *plan = edited("");
    test_ok(choose("mpp-fast-continuation-chunks", &p, &r, &err), &err);
    test_ok(ds4_routes_apply(plan, &r, &err), &err);
    static const uint32_t pos[] = {0, 512, 1024, 2048, 4096, 5120};
    for (int k = 0; k < 6; k++)
        for (uint32_t il = 0; il < N_LAYER; il++) {
            ds4_cell c = ds4_plan_cell(plan, DS4_TAP_moe_gate, il, DS4_PREFILL);
            bool runs = false;
            for (int w = 0; w < DS4_MAX_WANTED && c.row[w]; w++)
                runs = runs || !ds4_when_refuses(&c.when[w], 64, pos[k]);
            assert_int_equal(runs, il >= 15 || (k > 0 && k < 5));
        }
    ds4_plan_free(plan);
    ds4_profile_fini(&p), ds4_routes_fini(&r);
}

/* Writes a profile file. Owns: the caller removes it. */
static const char *file_of(const char *text) {
    static char path[256];
    const char *tmp = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/test_routes.XXXXXX", tmp && *tmp ? tmp : P_tmpdir);
    FILE *f = fdopen(mkstemp(path), "wb");
    fputs(text, f);
    fclose(f);
    return path;
}

static void file_refuse(const char *text, const char *words) {
    const char *path = file_of(text);
    ds4_profile p = {.name = ""};
    ds4_routes r = {0};
    ds4_err err = {0};
    ds4_status st = choose(path, &p, &r, &err);
    if (st != DS4_ERR_USAGE || !strstr(err.message, words) || !strstr(err.message, path))
        fail_msg("\"%s\" gave %d \"%s\", wanted \"%s\"", text, (int)st,
                 st == DS4_OK ? "" : err.message, words);
    remove(path);
    ds4_profile_fini(&p), ds4_routes_fini(&r);
}

static void test_profile_file_is_read(void **state) {
    (void)state;
    const char *path = file_of("# mine\n[other]\nmatch engine=vk\nall=off\n"
                               "[mine] # this one\r\nmatch engine=r*\n match engine=?ef \n"
                               "moe = on\nmoe=on@3\nmoe_up=coop_direct\n[last]\nall=off\n");
    ds4_profile p = {.name = ""};
    ds4_routes r = {0};
    ds4_err err = {0};
    assert_int_equal(choose(path, &p, &r, &err), DS4_ERR_USAGE); /* "moe " is no route */
    assert_non_null(strstr(err.message, ":8: no route or group is called \"moe \""));
    ds4_routes_fini(&r);
    remove(path);
    path = file_of("# mine\n[other]\nmatch engine=vk\nall=off\n"
                   "[mine] # this one\r\nmatch engine=r*\n match engine=?ef \n"
                   "moe=on\nmoe=on@3\nmoe_up=coop_direct\n[last]\nall=off\n");
    test_ok(choose(path, &p, &r, &err), &err);
    assert_string_equal(p.name, "mine");
    assert_string_equal(p.file, path);
    assert_string_equal(p.text, "moe=on\nmoe=on@3\nmoe_up=coop_direct\n");
    /* The engine has no such row: a profile is for many devices, and the route stays off. */
    makes(&r, "moe_up=f16", "moe_gate@3=f16/tok=32-;moe_down@3=f16/tok=32-");
    remove(path);
    ds4_routes_fini(&r);
    /* The built-in table as a file is the same table. */
    path = file_of(ds4_profile_builtin());
    test_ok(choose(path, &p, &r, &err), &err);
    assert_string_equal(p.name, "generic");
    remove(path);
    assert_int_equal(choose(path, &p, &r, &err), DS4_ERR_IO);
    assert_string_equal(p.name, "generic");           /* untouched */
    assert_int_equal(r.at[0].origin, DS4_ROUTE_PLAN); /* what was set before is gone */
    test_ok(choose("llvmpipe", &p, &r, &err), &err);
    assert_int_equal(r.at[0].origin, DS4_ROUTE_PROFILE);
    test_ok(choose("none", &p, &r, &err), &err);
    assert_string_equal(p.name, "none");
    assert_int_equal(r.at[0].origin, DS4_ROUTE_PLAN);
    ds4_profile_fini(&p);
}

static void test_profile_malformed_files_are_refused(void **state) {
    (void)state;
    file_refuse("\n", "no profile matches this device (CPU)");
    file_refuse("[a]\nmatch engine=vk\nall=off\n", "no profile matches this device");
    file_refuse("all=off\n", ":1: found \"all=off\", wanted [NAME] first");
    file_refuse("[a\n", ":1: found \"[a\", wanted [NAME]"), file_refuse("[]\n", ":1: found");
    file_refuse("[a b]\n", ":1: found"), file_refuse("[none]\n", "none] is no name");
    file_refuse("[a]\nmatch drivr=x\n", ":2: found match \"drivr\"");
    file_refuse("[a]\nmatch drivr=x\n", "the nearest is driver");
    file_refuse("[a]\nmatch driver\n", ":2: found match \"driver\", wanted FACT=PATTERN");
    file_refuse("[a]\nall=off\nmatch engine=ref\n", ":3: match after settings");
    file_refuse("[a]\nall=of\n", ":2: found \"of\"");
    /* Profiles that are not in force are checked as well. */
    file_refuse("[a]\nall=off\n[b]\nmatch engine=vk\ndense=on@x\n", ":5: layers \"x\"");
    file_refuse("[a]\nmatching=1\n", ":2: no route or group is called \"matching\"");
    ds4_profile p = {.name = ""};
    ds4_routes r = {0};
    ds4_err err;
    assert_int_equal(choose("nvidai", &p, &r, &err), DS4_ERR_USAGE);
    assert_non_null(strstr(err.message, "\"nvidai\"; the nearest is nvidia"));
    ds4_profile_fini(&p), ds4_routes_fini(&r);
}

static int set_up(void **state) {
    (void)state;
    ds4_err err;
    clear_environment();
    return ds4_backend_open(&ref, &(ds4_engine_options){.engine = "ref"}, &err);
}

static int tear_down(void **state) {
    (void)state;
    ref->ops->close(ref);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes_are_those_of_the_taps),
        cmocka_unit_test(test_routes_know_every_tensor_row),
        cmocka_unit_test(test_routes_settings_edit_the_plan),
        cmocka_unit_test(test_routes_later_origins_win),
        cmocka_unit_test(test_routes_malformed_settings_are_refused),
        cmocka_unit_test(test_routes_trap_position_is_no_prefix),
        cmocka_unit_test(test_routes_trap_module_is_no_part_of_a_name),
        cmocka_unit_test(test_routes_trap_list_of_layers_is_no_substring),
        cmocka_unit_test(test_routes_trap_long_text_is_read_to_its_end),
        cmocka_unit_test(test_routes_environment_is_read),
        cmocka_unit_test(test_routes_variables_of_existing_engines_are_read),
        cmocka_unit_test(test_routes_doubtful_variables_are_refused),
        cmocka_unit_test(test_profile_follows_the_device),
        cmocka_unit_test(test_profile_presets_make_plans),
        cmocka_unit_test(test_profile_file_is_read),
        cmocka_unit_test(test_profile_malformed_files_are_refused),
    };
    return cmocka_run_group_tests_name("routes", tests, set_up, tear_down);
}
