/* Recorded command buffers that are submitted again: with the arguments of now, the buffers of
 * now, never while they run; and the order that they are recorded in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/ops/ops.h"
#include "engine/vk/vk_graph.h"
#include "tests/support.h"

static const char MODEL[] = "fixtures/tiny/ds4-tiny-q4k.gguf";

static uint32_t next_random(uint32_t *s) { return *s = *s * 1664525u + 1013904223u; }

/* ---- order and barriers ---- */

typedef struct trace {
    const ds4_vk_list *list;
    ds4_vk_schedule order;
} trace;

static bool touches(const ds4_vk_node *n, VkBuffer b, bool writes) {
    for (uint32_t i = 0; i < n->n_bind; i++)
        if (n->bind[i] == b && (!writes || (n->writes & (1u << i)))) return true;
    return false;
}

/* The first pair of a list that may run the wrong way round: both touch a buffer, one of them
 * writes it (read after write, write after read, write after write), and there is no barrier
 * after the first and before the second. */
static bool has_hazard(const trace *t, char *what, size_t n_what) {
    uint32_t at[DS4_VK_BATCH_CALLS], n_seen = 0, epoch[DS4_VK_BATCH_CALLS], now = 0;

    memset(at, 0xff, sizeof at);
    for (uint32_t i = 0; i < t->list->n; i++) {
        now += t->order.barrier[i];
        epoch[i] = now;
        n_seen += at[t->order.node[i]] == UINT32_MAX;
        at[t->order.node[i]] = i;
    }
    snprintf(what, n_what, "%u of %u commands", n_seen, t->list->n);
    if (n_seen != t->list->n) return true;
    for (uint32_t a = 0; a < t->list->n; a++)
        for (uint32_t b = a + 1; b < t->list->n; b++) {
            const ds4_vk_node *x = &t->list->node[a], *y = &t->list->node[b];
            bool shared = false;
            for (uint32_t i = 0; i < x->n_bind; i++)
                shared |= touches(x, x->bind[i], true) ? touches(y, x->bind[i], false)
                                                       : touches(y, x->bind[i], true);
            if (!shared || epoch[at[a]] < epoch[at[b]]) continue;
            snprintf(what, n_what, "commands %u and %u share a buffer, no barrier between", a,
                     b);
            return true;
        }
    return false;
}

static VkBuffer fake_buffer(uint32_t i) {
    uint64_t v = 16 * ((uint64_t)i + 1);
    VkBuffer b;
    memcpy(&b, &v, sizeof b);
    return b;
}

static void fill_random(ds4_vk_list *l, uint32_t n, uint32_t n_buffer, uint32_t seed) {
    memset(l, 0, sizeof *l);
    l->n = n;
    for (uint32_t i = 0; i < n; i++) {
        ds4_vk_node *x = &l->node[i];
        x->n_bind = 1 + (next_random(&seed) >> 16) % DS4_MAX_BIND;
        for (uint32_t k = 0; k < x->n_bind; k++)
            x->bind[k] = fake_buffer((next_random(&seed) >> 16) % n_buffer);
        x->writes = 1u << (x->n_bind - 1);
        if ((next_random(&seed) >> 16) % 5 == 0) x->writes |= 1u; /* scratch */
    }
}

static void test_order_of_random_lists_has_no_hazard(void **state) {
    static ds4_vk_list l;
    trace t = {.list = &l};
    uint32_t n_removed = 0, n_swapped = 0, n_free = 0;
    char what[96];
    (void)state;
    for (uint32_t seed = 0; seed < 300; seed++) {
        fill_random(&l, 1 + seed % DS4_VK_BATCH_CALLS, 2 + seed % 61 * 8, seed);
        ds4_vk_list_schedule(&t.order, &l);
        if (has_hazard(&t, what, sizeof what)) fail_msg("seed %u: %s", seed, what);
        for (uint32_t i = 1; i < l.n; i++) {
            ds4_vk_schedule sound = t.order;
            n_free += !sound.barrier[i];
            if (sound.barrier[i]) { /* every barrier is needed */
                t.order.barrier[i] = false;
                if (!has_hazard(&t, what, sizeof what)) fail_msg("seed %u: %u", seed, i);
                n_removed++, t.order = sound;
            }
            t.order.node[i] = sound.node[i - 1]; /* a command twice, another one lost */
            assert_true(has_hazard(&t, what, sizeof what));
            n_swapped++, t.order = sound;
        }
    }
    print_message("%u barriers and %u commands taken away and missed; %u needed no barrier\n",
                  n_removed, n_swapped, n_free);
    assert_true(n_removed > 1000 && n_free > 1000);
}

/* A node of every kind of difference has another shape; arguments are no part of it. */
static void test_shape_sees_every_field(void **state) {
    static ds4_vk_list a, b;
    (void)state;
    fill_random(&a, 5, 9, 1);
    b = a;
    assert_true(ds4_vk_list_equal(&a, &b));
    assert_true(ds4_vk_list_hash(&a) == ds4_vk_list_hash(&b));
    for (size_t i = 0; i < sizeof b.node[0]; i++) {
        ((uint8_t *)&b.node[4])[i] ^= 1;
        assert_false(ds4_vk_list_equal(&a, &b));
        assert_true(ds4_vk_list_hash(&a) != ds4_vk_list_hash(&b));
        b = a;
    }
    b.n = 4;
    assert_false(ds4_vk_list_equal(&a, &b));
    assert_true(ds4_vk_list_hash(&a) != ds4_vk_list_hash(&b));
}

/* ---- calls ---- */

#define OK(call)                                                                               \
    do {                                                                                       \
        ds4_err ok_err = {0};                                                                  \
        err = &ok_err;                                                                         \
        test_ok((call), &ok_err);                                                              \
    } while (0)

static ds4_backend *opened;

static int setup(void **state) {
    const ds4_vk_options opt = test_vk_options();
    (void)state;
    if (test_has_device()) test_ok(ds4_vk_open(&opened, &opt, NULL), &(ds4_err){0});
    return 0;
}

static int teardown(void **state) {
    (void)state;
    if (opened) opened->ops->close(opened);
    return 0;
}

static ds4_backend *device(void) {
    if (!opened) skip();
    return opened;
}

static ds4_vk_graph_stats count(ds4_backend *b) {
    return ds4_vk_graph_count(ds4_vk_graph_of(b));
}

enum { N_COL = 64, N_ROW = 8 };

static float value(uint32_t seed, uint32_t i) { return (float)(seed * 1000 + i); }

/* Owns: freed by the backend. N_ROW rows of seed's values. */
static ds4_buf *rows_of(ds4_backend *b, uint32_t seed) {
    ds4_buf *buf = NULL;
    float v[N_ROW * N_COL];
    ds4_err *err;
    for (uint32_t i = 0; i < N_ROW * N_COL; i++) v[i] = value(seed, i);
    OK(b->ops->buf_new(b, &buf, sizeof v, DS4_TYPE_F32, err));
    OK(b->ops->buf_write(b, buf, 0, v, sizeof v, err));
    return buf;
}

/* Rows 0 .. n_row - 1 of x into slots row0 .. of a ring of `cap` rows. */
static void store(ds4_backend *b, ds4_buf *ring, ds4_buf *x, uint32_t n_row, uint32_t row0,
                  uint32_t cap) {
    struct ds4_args_row_store a = {n_row, N_COL, row0, cap};
    ds4_err *err;
    ds4_call c = {.tap = DS4_TAP_kv_store,
                  .args = &a,
                  .args_bytes = sizeof a,
                  .bind = {x, ring},
                  .n_bind = 2};
    OK(b->ops->call(b, &c, 0, err));
}

/* The same shape with other arguments and another group count: more and fewer rows, at another
 * place. */
static void test_replay_takes_new_arguments_and_group_counts(void **state) {
    static const uint32_t n_row[] = {1, N_ROW, 2, 5}, row0[] = {3, 0, 6, 2};
    ds4_backend *b = device();
    float want[N_ROW * N_COL] = {0}, got[N_ROW * N_COL];
    ds4_buf *x = rows_of(b, 1), *ring = NULL;
    ds4_err *err;
    (void)state;
    OK(b->ops->buf_new(b, &ring, sizeof want, DS4_TYPE_F32, err));
    const ds4_vk_graph_stats before = count(b);
    for (uint32_t k = 0; k < 4; k++) {
        store(b, ring, x, n_row[k], row0[k], N_ROW);
        OK(b->ops->sync(b, err));
        OK(b->ops->buf_read(b, ring, 0, got, sizeof got, err));
        for (uint32_t i = 0; i < n_row[k] * N_COL; i++)
            want[(row0[k] * N_COL + i) % (N_ROW * N_COL)] = value(1, i);
        assert_memory_equal(got, want, sizeof want);
    }
    const ds4_vk_graph_stats after = count(b);
    assert_true(after.n_replayed - before.n_replayed >= 3);
    b->ops->buf_free(b, x), b->ops->buf_free(b, ring);
}

/* More lists of one shape than may run at once, none waited for: each slot is written once. */
static void test_replay_waits_for_nothing_and_mixes_nothing_up(void **state) {
    ds4_backend *b = device();
    const uint32_t n = 12 * DS4_VK_BATCH_CALLS, n_elem = n * N_COL;
    ds4_buf *x = rows_of(b, 2), *ring = NULL;
    float *got = malloc(n_elem * sizeof *got);
    ds4_err *err;
    (void)state;
    assert_non_null(got);
    OK(b->ops->buf_new(b, &ring, n_elem * sizeof *got, DS4_TYPE_F32, err));
    const ds4_vk_graph_stats before = count(b);
    for (uint32_t i = 0; i < n; i++) store(b, ring, x, 1, i * 5 % n, n);
    OK(b->ops->buf_read(b, ring, 0, got, n_elem * sizeof *got, err));
    for (uint32_t i = 0; i < n_elem; i++)
        if (got[i] != value(2, i % N_COL)) fail_msg("slot %u was not written", i / N_COL);
    const ds4_vk_graph_stats after = count(b);
    assert_true(after.n_recorded - before.n_recorded <= DS4_VK_BATCHES + 1);
    assert_true(after.n_replayed - before.n_replayed >= 12 - DS4_VK_BATCHES - 1);
    b->ops->buf_free(b, x), b->ops->buf_free(b, ring);
    free(got);
}

/* Buffers of one size, freed and made again: drivers give such a buffer the handle of the last
 * one, and what was recorded with that must not run. */
static void test_replay_forgets_freed_buffers(void **state) {
    ds4_backend *b = device();
    float got[N_ROW * N_COL];
    ds4_err *err;
    (void)state;
    const ds4_vk_graph_stats before = count(b);
    for (uint32_t k = 0; k < 20; k++) {
        ds4_buf *x = rows_of(b, 10 + k), *ring = NULL;
        OK(b->ops->buf_new(b, &ring, sizeof got, DS4_TYPE_F32, err));
        store(b, ring, x, N_ROW, 0, N_ROW);
        OK(b->ops->buf_read(b, ring, 0, got, sizeof got, err));
        for (uint32_t i = 0; i < N_ROW * N_COL; i++)
            if (got[i] != value(10 + k, i)) fail_msg("round %u: element %u", k, i);
        b->ops->buf_free(b, k % 2 ? x : ring), b->ops->buf_free(b, k % 2 ? ring : x);
    }
    assert_true(count(b).n_forgotten - before.n_forgotten >= 20);
}

/* The pipeline of the first recorded list that runs one, and how many lists run it. */
static uint32_t n_list_of(const ds4_vk_graph *g, VkPipeline *pipeline) {
    const ds4_vk_list *l;
    uint32_t n = 0;
    for (uint32_t i = 0; (l = ds4_vk_graph_recorded(g, i)); i++) {
        if (!*pipeline && l->n) *pipeline = l->node[0].pipeline;
        n += *pipeline && ds4_vk_list_runs(l, *pipeline);
    }
    return n;
}

/* Drivers give a pipeline the handle of a destroyed one, too. Opening a device runs every build
 * of the float probe once, on the same buffers, and destroys its pipeline: nothing may be
 * replayed. */
static void test_replay_forgets_destroyed_pipelines(void **state) {
    ds4_backend *b = device(), *other = NULL;
    ds4_vk_graph *g = ds4_vk_graph_of(b);
    ds4_buf *x = rows_of(b, 1), *y = rows_of(b, 2);
    VkPipeline pipeline = VK_NULL_HANDLE;
    ds4_err *err;
    (void)state;
    store(b, y, x, 4, 0, N_ROW);
    OK(b->ops->sync(b, err));
    assert_true(n_list_of(g, &pipeline) > 0);
    ds4_vk_graph_forget_pipeline(g, pipeline);
    assert_int_equal(n_list_of(g, &pipeline), 0);
    b->ops->buf_free(b, x), b->ops->buf_free(b, y);
    for (int staged = 0; staged < 2; staged++) {
        ds4_vk_options opt = test_vk_options();
        opt.staged = staged;
        OK(ds4_vk_open(&other, &opt, err));
        assert_true(count(other).n_recorded > 0);
        assert_int_equal(count(other).n_replayed, 0);
        other->ops->close(other);
    }
}

/* More shapes than records: the oldest makes room, and is recorded again when it comes back. */
static void test_replay_keeps_a_bounded_number_of_records(void **state) {
    enum { N = DS4_VK_RECORDS + 9 };
    ds4_backend *b = device();
    ds4_buf *x = rows_of(b, 3), *ring[N] = {0};
    float got[N_ROW * N_COL];
    ds4_err *err;
    (void)state;
    for (uint32_t k = 0; k < N; k++)
        OK(b->ops->buf_new(b, &ring[k], sizeof got, DS4_TYPE_F32, err));
    const ds4_vk_graph_stats before = count(b);
    for (uint32_t round = 0; round < 2; round++)
        for (uint32_t k = 0; k < N; k++) {
            store(b, ring[k], x, 4, 4 * round, N_ROW);
            OK(b->ops->sync(b, err));
        }
    assert_int_equal(count(b).n_recorded - before.n_recorded, 2 * N);
    assert_non_null(ds4_vk_graph_recorded(ds4_vk_graph_of(b), DS4_VK_RECORDS - 1));
    assert_null(ds4_vk_graph_recorded(ds4_vk_graph_of(b), DS4_VK_RECORDS));
    for (uint32_t k = 0; k < N; k++) {
        OK(b->ops->buf_read(b, ring[k], 0, got, sizeof got, err));
        for (uint32_t i = 0; i < N_ROW * N_COL; i++)
            assert_true(got[i] == value(3, i % (4 * N_COL)));
        b->ops->buf_free(b, ring[k]);
    }
    b->ops->buf_free(b, x);
}

/* ---- decoding ---- */

enum { N_PROMPT = 20, N_WARM = 4, N_DECODE = 20, N_ALL = N_PROMPT + N_WARM + N_DECODE };

typedef struct run {
    ds4_engine *e;
    ds4_session *s;
    float *logits; /* of every step */
    uint32_t n_vocab, n_step;
    ds4_vk_graph_stats warm, end; /* vk alone */
} run;

static void step(run *r, const int32_t *token, uint32_t n, ds4_phase phase) {
    ds4_err err;
    test_ok(ds4_session_eval(r->s, token, n, phase, &err), &err);
    memcpy(r->logits + (size_t)r->n_step++ * r->n_vocab, ds4_session_logits(r->s),
           r->n_vocab * sizeof *r->logits);
}

/* Owns: run_fini. */
static void run_init(run *r, const char *engine) {
    int32_t *token = NULL;
    ds4_plan *plan = NULL;
    ds4_err err;
    uint32_t n = test_read_tokens("fixtures/vectors/oracle/italian_96.tokens", &token);

    assert_true(n >= N_ALL);
    memset(r, 0, sizeof *r);
    r->e = test_engine(engine, MODEL);
    const bool vk = !strcmp(engine, "vk");
    r->n_vocab = ds4_engine_config(r->e)->n_vocab;
    r->logits = calloc((size_t)N_ALL * r->n_vocab, sizeof *r->logits);
    assert_non_null(r->logits);
    test_ok(ds4_engine_plan(r->e, &plan, &err), &err);
    test_ok(ds4_session_new(&r->s, r->e, plan, N_ALL, N_PROMPT, &err), &err);
    step(r, token, N_PROMPT, DS4_PREFILL);
    for (uint32_t i = N_PROMPT; i < N_ALL; i++) {
        if (vk && i == N_PROMPT + N_WARM) r->warm = count(ds4_engine_backend(r->e));
        step(r, token + i, 1, DS4_DECODE);
    }
    if (vk) r->end = count(ds4_engine_backend(r->e));
    ds4_plan_free(plan);
    free(token);
}

static void run_fini(run *r) {
    ds4_session_free(r->s);
    ds4_engine_close(r->e);
    free(r->logits);
}

static void assert_same(const run *a, const run *b) {
    assert_int_equal(a->n_step, b->n_step);
    for (uint32_t i = 0; i < a->n_step; i++)
        if (memcmp(a->logits + (size_t)i * a->n_vocab, b->logits + (size_t)i * a->n_vocab,
                   a->n_vocab * sizeof *a->logits))
            fail_msg("other logits at step %u", i);
}

static void check_records(ds4_backend *b) {
    const ds4_vk_list *l;
    char what[96];
    uint32_t n = 0;
    for (uint32_t i = 0; (l = ds4_vk_graph_recorded(ds4_vk_graph_of(b), i)); i++) {
        trace t = {.list = l};
        ds4_vk_list_schedule(&t.order, l);
        if (has_hazard(&t, what, sizeof what)) fail_msg("record %u: %s", i, what);
        n += l->n;
    }
    assert_true(n > 100);
}

/* Windows of 4 tokens make two shapes of a step, and both were met while it warmed up. (More
 * come where a window of 128 ends and where selection begins, past the end of this text.) */
static void test_decode_replays_after_the_warm_up(void **state) {
    run ref, on, off;
    (void)state, (void)device();
    run_init(&ref, "ref");
    run_init(&on, "vk");
    assert_int_equal(setenv("DS4_VK_REPLAY", "0", 1), 0);
    run_init(&off, "vk");
    unsetenv("DS4_VK_REPLAY");
    assert_same(&ref, &on);
    assert_same(&ref, &off);
    check_records(ds4_engine_backend(on.e));

    const uint64_t n_new = on.end.n_recorded - on.warm.n_recorded;
    const uint64_t n_again = on.end.n_replayed - on.warm.n_replayed;
    print_message("%u steps: %llu submissions replayed, %llu recorded; %llu barriers for %llu "
                  "commands recorded so far\n",
                  N_DECODE, (unsigned long long)n_again, (unsigned long long)n_new,
                  (unsigned long long)on.end.n_barrier, (unsigned long long)on.end.n_call);
    assert_int_equal(n_new, 0);
    assert_true(n_again >= N_DECODE);
    assert_true(on.end.n_barrier < on.end.n_call * 3 / 4);
    assert_int_equal(off.end.n_replayed, 0);
    assert_true(off.end.n_recorded > on.end.n_recorded);
    run_fini(&ref), run_fini(&on), run_fini(&off);
}

static void test_setting_of_another_kind_is_an_error(void **state) {
    const ds4_engine_options opt = {.engine = "vk", .device = -1};
    ds4_backend *b = NULL;
    ds4_err err = {0};
    (void)state;
    assert_int_equal(setenv("DS4_VK_REPLAY", "perhaps", 1), 0);
    assert_int_equal(ds4_backend_open(&b, &opt, &err), DS4_ERR_USAGE);
    unsetenv("DS4_VK_REPLAY");
    assert_non_null(strstr(err.message, "DS4_VK_REPLAY: found \"perhaps\""));
    assert_null(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_random_lists_has_no_hazard),
        cmocka_unit_test(test_shape_sees_every_field),
        cmocka_unit_test(test_replay_takes_new_arguments_and_group_counts),
        cmocka_unit_test(test_replay_waits_for_nothing_and_mixes_nothing_up),
        cmocka_unit_test(test_replay_forgets_freed_buffers),
        cmocka_unit_test(test_replay_forgets_destroyed_pipelines),
        cmocka_unit_test(test_replay_keeps_a_bounded_number_of_records),
        cmocka_unit_test(test_decode_replays_after_the_warm_up),
        cmocka_unit_test(test_setting_of_another_kind_is_an_error),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
