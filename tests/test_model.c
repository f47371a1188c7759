/* engine/model: the bundled models read and bound, and each rule of a shape broken once. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/float.h"
#include "engine/base/mem.h"
#include "engine/format/tokenizer.h"
#include "engine/model/weights.h"

#define Q2 "fixtures/tiny/ds4-tiny-q2.gguf"
#define Q4K "fixtures/tiny/ds4-tiny-q4k.gguf"

/* A private copy of the q2 model whose bytes may be changed, and its parsed form. */
typedef struct copy {
    uint8_t *p;
    size_t n;
    ds4_gguf *g;
    ds4_weights *w;
} copy;

static int open_copy(void **state) {
    static copy c;
    ds4_gguf *g = NULL;
    if (ds4_gguf_open(&g, Q2, NULL) != DS4_OK) return -1;
    const void *p = ds4_gguf_bytes(g, &c.n);
    c.p = malloc(c.n);
    c.w = malloc(sizeof *c.w);
    if (!c.p || !c.w) return -1;
    memcpy(c.p, p, c.n);
    ds4_gguf_close(g);
    *state = &c;
    return ds4_gguf_parse(&c.g, c.p, c.n, "copy", NULL) == DS4_OK ? 0 : -1;
}

static int close_copy(void **state) {
    copy *c = *state;
    ds4_gguf_close(c->g);
    free(c->p);
    free(c->w);
    return 0;
}

/* Where the value of a key starts: after the key and its type. */
static uint8_t *value_of(const copy *c, const char *key) {
    ds4_str s;
    uint32_t type;
    for (uint64_t i = 0; ds4_gguf_meta_at(c->g, i, &s, &type); i++)
        if (s.n == strlen(key) && !memcmp(s.p, key, s.n))
            return c->p + ((const uint8_t *)s.p - c->p) + s.n + 4;
    fail_msg("the model has no %s", key);
    return NULL;
}

static void refuse_config(const copy *c, const char *word) {
    ds4_config cfg = {.n_layer = 12345};
    ds4_err err = {0};
    assert_int_equal(ds4_config_read(&cfg, c->g, &err), DS4_ERR_FORMAT);
    assert_int_equal(cfg.n_layer, 12345); /* untouched */
    if (!strstr(err.message, word)) fail_msg("'%s' lacks '%s'", err.message, word);
}

/* With four bytes of a key's value replaced, reading must fail and name the key. */
static void refuse_value(const copy *c, const char *key, size_t at, uint32_t bits) {
    uint8_t *p = value_of(c, key) + at, old[4];
    memcpy(old, p, 4);
    memcpy(p, &bits, 4);
    refuse_config(c, key);
    memcpy(p, old, 4);
}

static void test_config_tiny_model_is_read(void **state) {
    const copy *c = *state;
    static const uint32_t ratio[] = {0, 0, 4, 128, 4, 128};
    ds4_config g = {0};
    assert_int_equal(ds4_config_read(&g, c->g, NULL), DS4_OK);
    assert_true(g.n_layer == 6 && g.n_embd == 256 && g.n_vocab == 2048 && g.n_head == 4);
    assert_true(g.d_head == 128 && g.n_rot == 64 && g.q_rank == 128 && g.o_rank == 64);
    assert_true(g.n_group == 2 && g.window == 32 && g.n_idx_head == 4 && g.d_idx == 128);
    assert_true(g.idx_top_k == 16 && g.n_expert == 8 && g.n_expert_used == 2 && g.n_ff == 256);
    assert_true(g.n_hash == 3 && g.n_hc == 4 && g.n_sinkhorn == 20 && g.yarn_n_ctx == 65536);
    assert_true(g.eps == 1e-6f && g.hc_eps == 1e-6f && g.expert_scale == 1.5f);
    assert_true(g.rope_base == 10000.0 && g.rope_base_comp == 160000.0 &&
                g.yarn_factor == 16.0);
    assert_true(g.yarn_beta_fast == 32.0 && g.yarn_beta_slow == 1.0);
    assert_memory_equal(g.ratio, ratio, sizeof ratio);
    for (int il = 0; il < 6; il++) assert_true(g.clamp[il] == 10.0f);
}

static void test_config_each_count_out_of_bounds_is_refused(void **state) {
    static const struct {
        const char *key;
        uint32_t bad[3];
    } rows[] = {
        {"deepseek4.block_count", {0, 257, ~0u}},
        {"deepseek4.embedding_length", {0, 48, ~0u - 31}},
        {"deepseek4.vocab_size", {0, 2047, ~0u}},
        {"deepseek4.attention.head_count", {0, 1025, ~0u}},
        {"deepseek4.attention.head_count_kv", {0, 2, ~0u}},
        {"deepseek4.attention.key_length", {64, 160, ~0u}},
        {"deepseek4.attention.value_length", {0, 64, 192}},
        {"deepseek4.rope.dimension_count", {0, 63, 130}},
        {"deepseek4.attention.q_lora_rank", {0, 65537, ~0u}},
        {"deepseek4.attention.output_lora_rank", {0, 65537, ~0u}},
        {"deepseek4.attention.output_group_count", {0, 3, 8}},
        {"deepseek4.attention.sliding_window", {0, 65537, ~0u}},
        {"deepseek4.attention.indexer.head_count", {0, 1025, ~0u}},
        {"deepseek4.attention.indexer.key_length", {0, 64, 256}},
        {"deepseek4.attention.indexer.top_k", {0, (1u << 20) + 1, ~0u}},
        {"deepseek4.expert_count", {0, 4097, ~0u}},
        {"deepseek4.expert_used_count", {0, 9, ~0u}},
        {"deepseek4.expert_shared_count", {0, 2, ~0u}},
        {"deepseek4.expert_feed_forward_length", {0, (1u << 18) + 1, ~0u}},
        {"deepseek4.hash_layer_count", {7, 257, ~0u}},
        {"deepseek4.hyper_connection.count", {0, 3, 5}},
        {"deepseek4.hyper_connection.sinkhorn_iterations", {0, 1001, ~0u}},
        {"deepseek4.rope.scaling.original_context_length", {0, 0, 0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int k = 0; k < 3; k++) {
            /* A vocabulary one short is refused by the tokenizer's count. */
            const char *key = rows[i].key;
            if (rows[i].bad[k] == 2047) {
                uint8_t *p = value_of(*state, key);
                memcpy(p, &(uint32_t){2047}, 4);
                refuse_config(*state, "vocab_size");
                memcpy(p, &(uint32_t){2048}, 4);
            } else refuse_value(*state, key, 0, rows[i].bad[k]);
        }
}

static void test_config_each_number_that_is_no_sane_number_is_refused(void **state) {
    static const char *const keys[] = {
        "deepseek4.attention.layer_norm_rms_epsilon",
        "deepseek4.attention.compress_rope_freq_base",
        "deepseek4.rope.freq_base",
        "deepseek4.rope.scaling.factor",
        "deepseek4.rope.scaling.yarn_beta_fast",
        "deepseek4.rope.scaling.yarn_beta_slow",
        "deepseek4.expert_weights_scale",
        "deepseek4.hyper_connection.epsilon",
    };
    const float bad[] = {NAN, INFINITY, -INFINITY, -1.0f, 0.0f, 1e30f};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
            refuse_value(*state, keys[i], 0, ds4_f32_bits(bad[k]));
}

static void test_config_each_layer_value_out_of_bounds_is_refused(void **state) {
    /* An array's items follow its item type and count. */
    refuse_value(*state, "deepseek4.attention.compress_ratios", 12 + 4 * 5, 4097);
    refuse_value(*state, "deepseek4.attention.compress_ratios", 12, (uint32_t)-4);
    refuse_value(*state, "deepseek4.swiglu_clamp_exp", 12, ds4_f32_bits(NAN));
    refuse_value(*state, "deepseek4.swiglu_clamp_exp", 12 + 4 * 5, ds4_f32_bits(INFINITY));
    refuse_value(*state, "deepseek4.swiglu_clamp_exp", 12, ds4_f32_bits(-1.0f));
    uint8_t *norm = value_of(*state, "deepseek4.expert_weights_norm");
    *norm = 0;
    refuse_config(*state, "expert_weights_norm");
    *norm = 1;
}

static void test_config_ratios_of_any_kind_up_to_4096_are_read(void **state) {
    static const uint32_t good[] = {0, 1, 2, 8, 64, 4096};
    const copy *c = *state;
    uint8_t *p = value_of(c, "deepseek4.attention.compress_ratios") + 12, old[24];
    ds4_config cfg;
    memcpy(old, p, sizeof old);
    memcpy(p, good, sizeof good);
    assert_int_equal(ds4_config_read(&cfg, c->g, NULL), DS4_OK);
    assert_memory_equal(cfg.ratio, good, sizeof good);
    memcpy(p, old, sizeof old);
}

static void check_weight(const ds4_weight *w, uint32_t n_in, uint32_t n_out, uint32_t n_mat,
                         uint32_t quant, uint64_t row_bytes) {
    assert_non_null(w->tensor);
    assert_true(w->n_in == n_in && w->n_out == n_out && w->n_mat == n_mat);
    assert_true(w->tensor->quant->id == quant && w->row_bytes == row_bytes);
}

static void check_model(const char *path, uint32_t gate, uint64_t gate_row, uint32_t down,
                        uint64_t down_row, ds4_weights *w) {
    ds4_gguf *g = NULL;
    ds4_tokenizer *t = NULL;
    ds4_config cfg;
    ds4_err err = {0};
    if (ds4_gguf_open(&g, path, &err) || ds4_config_read(&cfg, g, &err) ||
        ds4_weights_bind(w, g, &cfg, &err) || ds4_tokenizer_new(&t, g, &err))
        fail_msg("%s", err.message);
    check_weight(&w->token_embd, 256, 2048, 1, DS4_QUANT_F16, 512);
    check_weight(&w->output, 256, 2048, 1, DS4_QUANT_Q8_0, 272);
    check_weight(&w->output_hc_scale, 1, 1, 1, DS4_QUANT_F32, 4);
    for (uint32_t il = 0; il < cfg.n_layer; il++) {
        const ds4_layer_weights *l = &w->layer[il];
        check_weight(&l->attn_output_a, 256, 128, 1, DS4_QUANT_Q8_0, 272);
        check_weight(&l->exp_gate, 256, 256, 8, gate, gate_row);
        check_weight(&l->exp_down, 256, 256, 8, down, down_row);
        assert_int_equal(l->comp_kv.tensor != NULL, cfg.ratio[il] != 0);
        assert_int_equal(l->idx_proj.tensor != NULL, cfg.ratio[il] == 4);
        assert_int_equal(l->router_hash.tensor != NULL, il < cfg.n_hash);
    }
    check_weight(&w->layer[2].comp_ape, 256, 4, 1, DS4_QUANT_F16, 512);
    check_weight(&w->layer[3].comp_ape, 128, 128, 1, DS4_QUANT_F16, 256);
    check_weight(&w->layer[0].router_hash, 2, 2048, 1, DS4_QUANT_I32, 8);
    assert_null(w->layer[DS4_MAX_LAYER - 1].attn_norm.tensor);
    ds4_tokenizer_free(t);
    ds4_gguf_close(g);
}

static void test_weights_both_tiny_models_are_bound(void **state) {
    const copy *c = *state;
    check_model(Q4K, DS4_QUANT_Q4_K, 144, DS4_QUANT_Q4_K, 144, c->w);
    check_model(Q2, DS4_QUANT_IQ2_XXS, 66, DS4_QUANT_Q2_K, 84, c->w);
}

/* Reparses after a change to the bytes; binding must fail and name the tensor. */
static void refuse_weights(const copy *c, const char *word) {
    ds4_gguf *g = NULL;
    ds4_config cfg;
    ds4_err err = {0};
    assert_int_equal(ds4_gguf_parse(&g, c->p, c->n, "copy", &err), DS4_OK);
    assert_int_equal(ds4_config_read(&cfg, g, &err), DS4_OK);
    assert_int_equal(ds4_weights_bind(c->w, g, &cfg, &err), DS4_ERR_FORMAT);
    if (!strstr(err.message, word)) fail_msg("'%s' lacks '%s'", err.message, word);
    ds4_gguf_close(g);
}

/* The directory entry after the name: rank, dimensions, type, offset. */
static uint8_t *entry_of(const copy *c, const char *name) {
    const ds4_tensor *t = ds4_gguf_find_tensor(c->g, name);
    assert_non_null(t);
    return c->p + ((const uint8_t *)t->name.p - c->p) + t->name.n;
}

static void swap_byte(const copy *c, uint8_t *p, uint8_t v, const char *word) {
    uint8_t old = *p;
    *p = v;
    refuse_weights(c, word);
    *p = old;
}

static void test_weights_missing_or_misshapen_tensors_are_refused(void **state) {
    const copy *c = *state;
    uint8_t *q_a = entry_of(c, "blk.4.attn_q_a.weight"),
            *norm = entry_of(c, "output_norm.weight");
    uint8_t *hash = entry_of(c, "blk.1.ffn_gate_tid2eid.weight");
    swap_byte(c, q_a - 1, 'x', "blk.4.attn_q_a.weight is missing");
    swap_byte(c, q_a + 12, 64, "[256, 64], wanted [256, 128]");
    swap_byte(c, q_a + 20, 77, "unknown");
    swap_byte(c, q_a + 20, DS4_QUANT_I32, "has type I32");
    swap_byte(c, norm + 12, DS4_QUANT_Q8_0, "output_norm.weight has type Q8_0");
    swap_byte(c, hash + 20, DS4_QUANT_F32, "blk.1.ffn_gate_tid2eid.weight has type F32");
}

/* A rank of 128 fills blocks of 32, not of 256. */
static void test_weights_rows_that_split_a_block_are_refused(void **state) {
    const copy *c = *state;
    swap_byte(c, entry_of(c, "blk.0.attn_q_b.weight") + 20, DS4_QUANT_Q2_K,
              "wanted a multiple");
}

static void test_weights_hash_ids_past_the_experts_are_refused(void **state) {
    const copy *c = *state;
    const ds4_tensor *t = ds4_gguf_find_tensor(c->g, "blk.2.ffn_gate_tid2eid.weight");
    uint8_t *p = c->p + (t->data - c->p);
    swap_byte(c, p + 4 * 4095, 8, "names expert 8 for token 2047");
    swap_byte(c, p + 3, 0x80, "blk.2.ffn_gate_tid2eid");
}

static void test_weights_the_optional_bias_may_be_absent(void **state) {
    const copy *c = *state;
    ds4_gguf *g = NULL;
    ds4_config cfg;
    uint8_t *p = entry_of(c, "blk.5.exp_probs_b.bias") - 1;
    *p = 'x';
    assert_int_equal(ds4_gguf_parse(&g, c->p, c->n, "copy", NULL), DS4_OK);
    assert_int_equal(ds4_config_read(&cfg, g, NULL), DS4_OK);
    assert_int_equal(ds4_weights_bind(c->w, g, &cfg, NULL), DS4_OK);
    assert_null(c->w->layer[5].router_bias.tensor);
    assert_non_null(c->w->layer[4].router_bias.tensor);
    *p = 's';
    ds4_gguf_close(g);
}

static void test_open_each_failing_allocation_is_reported(void **state) {
    const copy *c = *state;
    bool done = false;
    for (long k = 1; !done; k++) {
        ds4_gguf *g = NULL;
        ds4_tokenizer *t = NULL;
        ds4_config cfg;
        ds4_err err = {0};
        assert_true(k < 500);
        ds4_mem_fail_after(k);
        ds4_status st = ds4_gguf_parse(&g, c->p, c->n, "copy", &err);
        if (st == DS4_OK) st = ds4_config_read(&cfg, g, &err);
        if (st == DS4_OK) st = ds4_weights_bind(c->w, g, &cfg, &err);
        if (st == DS4_OK) st = ds4_tokenizer_new(&t, g, &err);
        done = st == DS4_OK;
        if (!done) assert_int_equal(st, DS4_ERR_MEMORY);
        ds4_tokenizer_free(t);
        ds4_gguf_close(g);
    }
    ds4_mem_fail_after(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config_tiny_model_is_read),
        cmocka_unit_test(test_config_each_count_out_of_bounds_is_refused),
        cmocka_unit_test(test_config_each_number_that_is_no_sane_number_is_refused),
        cmocka_unit_test(test_config_each_layer_value_out_of_bounds_is_refused),
        cmocka_unit_test(test_config_ratios_of_any_kind_up_to_4096_are_read),
        cmocka_unit_test(test_weights_both_tiny_models_are_bound),
        cmocka_unit_test(test_weights_missing_or_misshapen_tensors_are_refused),
        cmocka_unit_test(test_weights_rows_that_split_a_block_are_refused),
        cmocka_unit_test(test_weights_hash_ids_past_the_experts_are_refused),
        cmocka_unit_test(test_weights_the_optional_bias_may_be_absent),
        cmocka_unit_test(test_open_each_failing_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, open_copy, close_copy);
}
