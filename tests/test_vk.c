/* engine/vk: memory, recording, reflection and the checks of the manifest. What the kernels
 * compute is the business of test_kernels; here one op shows that calls arrive. */
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/ds4.h"
#include "engine/ops/ops.h"
#include "engine/variants.h"
#include "engine/vk/vk.h"
#include "engine/vk/vk_buffer.h"
#include "engine/vk/vk_kernel.h"
#include "tests/support.h"

enum { MAPPED, STAGED, N_MODE };

/* Opened once: a device takes longer to open than all tests together. */
static ds4_backend *opened[N_MODE];

static ds4_backend *device(int mode) {
    if (!opened[mode]) skip();
    return opened[mode];
}

/* Validation layers where they are installed. */
static int setup(void **state) {
    const bool require = test_needs_device();
    (void)state;
    for (int mode = 0; mode < N_MODE; mode++) {
        ds4_vk_options opt = {.device = -1, .validation = true, .staged = mode == STAGED};
        ds4_err err = {0};
        if (ds4_vk_open(&opened[mode], &opt, &err) == DS4_OK) continue;
        printf("test_vk: without validation: %s\n", err.message);
        opt.validation = false;
        if (ds4_vk_open(&opened[mode], &opt, &err) == DS4_OK) continue;
        printf("test_vk: %s: %s\n", require ? "FAILED" : "skipped", err.message);
        if (require) return -1;
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    for (int mode = 0; mode < N_MODE; mode++)
        if (opened[mode]) opened[mode]->ops->close(opened[mode]);
    return 0;
}

#define OK(call)                                                                               \
    do {                                                                                       \
        ds4_err ok_err = {0};                                                                  \
        err = &ok_err;                                                                         \
        if ((call) != DS4_OK) fail_msg("%s (%s)", ok_err.message, ok_err.origin);              \
    } while (0)

static uint32_t next_random(uint32_t *s) { return *s = *s * 1664525u + 1013904223u; }

static void fill_bytes(uint8_t *p, size_t n, uint32_t seed) {
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(next_random(&seed) >> 24);
}

static void fill_floats(float *p, size_t n, uint32_t seed) {
    for (size_t i = 0; i < n; i++) p[i] = (float)(int32_t)next_random(&seed) * 0x1p-31f;
}

static void test_list_names_every_device(void **state) {
    ds4_vk_device_info *info = NULL;
    uint32_t n = 0;
    ds4_err *err;
    (void)state;
    device(MAPPED);
    OK(ds4_vk_device_list(&info, &n, err));
    assert_true(n > 0);
    for (uint32_t i = 0; i < n; i++) {
        assert_string_equal(info[i].fact[0].key, "device");
        assert_true(info[i].n_fact > 20 && info[i].n_fact < DS4_VK_MAX_FACT);
    }
    ds4_mem_free(info);
}

static void test_open_past_the_last_device_is_usage(void **state) {
    ds4_backend *b = NULL;
    ds4_vk_options opt = {.device = 1000};
    ds4_err err = {0};
    (void)state;
    device(MAPPED);
    assert_int_equal(ds4_vk_open(&b, &opt, &err), DS4_ERR_USAGE);
    assert_non_null(strstr(err.message, "1000"));
    assert_null(b);
}

static void check_round_trip(ds4_backend *b, size_t n, size_t off, size_t part) {
    uint8_t *in = malloc(n), *back = malloc(n + 16);
    ds4_buf *buf = NULL;
    ds4_err *err;

    assert_true(in && back);
    fill_bytes(in, n, (uint32_t)n);
    memset(back, 0xa5, n + 16);
    OK(b->ops->buf_new(b, &buf, n, DS4_TYPE_F32, err));
    OK(b->ops->buf_read(b, buf, 0, back, n, err));
    for (size_t i = 0; i < n; i++) assert_int_equal(back[i], 0);
    OK(b->ops->buf_write(b, buf, off, in + off, part, err));
    OK(b->ops->buf_read(b, buf, 0, back, n, err));
    for (size_t i = 0; i < n; i++)
        assert_int_equal(back[i], i >= off && i - off < part ? in[i] : 0);
    for (size_t i = 0; i < 16; i++) assert_int_equal(back[n + i], 0xa5);
    b->ops->buf_free(b, buf);

    OK(b->ops->buf_weight(b, &buf, in, n, "w", err));
    OK(b->ops->buf_read(b, buf, off, back, part, err));
    assert_memory_equal(back, in + off, part);
    assert_int_equal(b->ops->buf_write(b, buf, 0, in, 1, NULL), DS4_ERR_INTERNAL);
    b->ops->buf_free(b, buf);
    free(in), free(back);
}

static void test_buffer_round_trips_at_odd_sizes(void **state) {
    static const size_t size[] = {1, 3, 4, 15, 16, 17, 66, 1021, (1 << 20) + 7, (5 << 20) + 1};
    (void)state;
    for (int mode = 0; mode < N_MODE; mode++) {
        ds4_backend *b = device(mode);
        for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
            check_round_trip(b, size[i], 0, size[i]);
            check_round_trip(b, size[i], size[i] / 3, size[i] / 2);
        }
    }
}

static void test_buffer_larger_than_the_staging_arrives_whole(void **state) {
    ds4_backend *b = device(STAGED);
    const size_t n = DS4_VK_STAGE_BYTES + 12345;
    uint8_t *in = malloc(n), *back = malloc(n);
    ds4_buf *buf = NULL;
    ds4_err *err;
    (void)state;
    assert_true(in && back);
    fill_bytes(in, n, 5);
    OK(b->ops->buf_weight(b, &buf, in, n, "large", err));
    OK(b->ops->buf_read(b, buf, 0, back, n, err));
    assert_memory_equal(back, in, n);
    b->ops->buf_free(b, buf);
    free(in), free(back);
}

static void test_buffer_past_its_end_is_refused(void **state) {
    ds4_backend *b = device(MAPPED);
    ds4_buf *buf = NULL;
    uint8_t byte[32];
    ds4_err *err;
    (void)state;
    OK(b->ops->buf_new(b, &buf, 20, DS4_TYPE_F32, err));
    assert_int_equal(b->ops->buf_read(b, buf, 4, byte, 17, NULL), DS4_ERR_INTERNAL);
    assert_int_equal(b->ops->buf_read(b, buf, 21, byte, 0, NULL), DS4_ERR_INTERNAL);
    assert_int_equal(b->ops->buf_read(b, buf, SIZE_MAX, byte, 2, NULL), DS4_ERR_INTERNAL);
    b->ops->buf_free(b, buf);
    b->ops->buf_free(b, NULL);
}

static void test_buffer_past_the_memory_names_both_sizes(void **state) {
    ds4_backend *b = device(MAPPED);
    ds4_buf *buf = NULL;
    ds4_err err = {0};
    const char *key, *value, *limit = "";
    (void)state;
    for (uint32_t i = 0; b->ops->fact(b, i, &key, &value); i++)
        if (!strcmp(key, "device_memory_bytes")) limit = value;
    assert_int_equal(b->ops->buf_weight(b, &buf, &err, (size_t)1 << 40, "blk.0.w", &err),
                     DS4_ERR_ENVIRONMENT);
    assert_non_null(strstr(err.message, "blk.0.w"));
    assert_non_null(strstr(err.message, "1099511627776"));
    char bytes[32];
    snprintf(bytes, sizeof bytes, "%.*s", (int)strcspn(limit, " "), limit);
    assert_non_null(strstr(err.message, bytes));
}

/* One row normalised by the strict row, and by the scalar reference, from equal inputs. */
typedef struct norm {
    ds4_buf *x, *w, *y;
    float *in, *weight, *want;
    struct ds4_args_rms_norm args;
    ds4_call call;
} norm;

static void norm_init(norm *t, ds4_backend *b, uint32_t n_row, uint32_t n_col, bool has_w) {
    const size_t n = (size_t)n_row * n_col;
    ds4_err *err;
    *t = (norm){.args = {n_row, n_col, has_w, 1e-6f}};
    t->in = malloc(n * 4), t->want = malloc(n * 4), t->weight = malloc((size_t)n_col * 4);
    assert_true(t->in && t->want && t->weight);
    fill_floats(t->in, n, 7), fill_floats(t->weight, n_col, 8);
    OK(b->ops->buf_new(b, &t->x, n * 4, DS4_TYPE_F32, err));
    OK(b->ops->buf_new(b, &t->y, n * 4, DS4_TYPE_F32, err));
    OK(b->ops->buf_write(b, t->x, 0, t->in, n * 4, err));
    if (has_w) OK(b->ops->buf_weight(b, &t->w, t->weight, (size_t)n_col * 4, "w", err));
    t->call = (ds4_call){.tap = DS4_TAP_attn_norm,
                         .args = &t->args,
                         .args_bytes = sizeof t->args,
                         .bind = {t->x, t->w, t->y},
                         .n_bind = 3,
                         .variants = DS4_VARIANT_BIT(NORM_RSQRT_DISABLE),
                         .n_elem = n};
    ds4_ref_call ref = {.args = &t->args,
                        .bind = {t->in, has_w ? t->weight : NULL, t->want},
                        .variants = t->call.variants};
    ds4_op_reference(DS4_OP_rms_norm, &ref, (ds4_box){0, n_row, 0, 1});
}

static void norm_fini(norm *t, ds4_backend *b) {
    b->ops->buf_free(b, t->x), b->ops->buf_free(b, t->w), b->ops->buf_free(b, t->y);
    free(t->in), free(t->weight), free(t->want);
}

static void check_strict(ds4_backend *b, uint32_t n_row, uint32_t n_col, bool has_w) {
    const size_t n = (size_t)n_row * n_col;
    float *got = malloc(n * 4);
    ds4_err *err;
    norm t;
    assert_non_null(got);
    norm_init(&t, b, n_row, n_col, has_w);
    OK(b->ops->call(b, &t.call, 0, err));
    OK(b->ops->buf_read(b, t.y, 0, got, n * 4, err));
    assert_memory_equal(got, t.want, n * 4);
    norm_fini(&t, b);
    free(got);
}

static void test_call_strict_equals_reference(void **state) {
    (void)state;
    for (int mode = 0; mode < N_MODE; mode++) {
        check_strict(device(mode), 3, 65, true);
        check_strict(device(mode), 1, 512, false); /* no weight: the dummy is bound */
    }
}

static void test_call_past_the_group_limit_is_split(void **state) {
    (void)state;
    check_strict(device(MAPPED), 65536 + 3, 2, false);
}

/* Both directions, with whole and partial groups in the last dispatch of each. */
static void test_call_past_the_group_limit_is_split_in_x_and_y(void **state) {
    const ds4_vk_options opt = {.device = -1, .max_group = 2};
    struct ds4_args_matmul args = {.n_tok = 18, .n_in = 24, .n_out = 300};
    float w[300 * 24], x[18 * 24], want[18 * 300], got[18 * 300];
    ds4_backend *b = NULL;
    ds4_buf *buf[3] = {NULL};
    ds4_err *err;
    (void)state, (void)device(MAPPED);
    args.row_bytes = args.n_in * 4, args.x_stride = args.n_in, args.group_rows = args.n_out;
    fill_floats(w, 300 * 24, 3), fill_floats(x, 18 * 24, 4);
    OK(ds4_vk_open(&b, &opt, err));
    OK(b->ops->buf_weight(b, &buf[0], w, sizeof w, "w", err));
    OK(b->ops->buf_new(b, &buf[1], sizeof x, DS4_TYPE_F32, err));
    OK(b->ops->buf_new(b, &buf[2], sizeof got, DS4_TYPE_F32, err));
    OK(b->ops->buf_write(b, buf[1], 0, x, sizeof x, err));
    ds4_call call = {.tap = DS4_TAP_q_low,
                     .args = &args,
                     .args_bytes = sizeof args,
                     .bind = {buf[0], buf[1], buf[2]},
                     .n_bind = 3,
                     .wtype = DS4_TYPE_F32,
                     .n_elem = 18 * 300};
    ds4_ref_call ref = {.args = &args, .bind = {w, x, want}, .wtype = DS4_TYPE_F32};
    uint32_t grid[3];
    ds4_op_grid(DS4_OP_matmul, &args, grid);
    ds4_op_reference(DS4_OP_matmul, &ref, (ds4_box){0, grid[0], 0, grid[1]});
    OK(b->ops->call(b, &call, 0, err));
    OK(b->ops->buf_read(b, buf[2], 0, got, sizeof got, err));
    assert_memory_equal(got, want, sizeof got);
    for (int i = 0; i < 3; i++) b->ops->buf_free(b, buf[i]);
    b->ops->close(b);
}

/* y = norm(x), x = norm(y), ... more often than a batch holds: order and barriers across
 * batches. */
static void test_call_chain_longer_than_a_batch_keeps_order(void **state) {
    ds4_backend *b = device(MAPPED);
    const uint32_t n_call = 3 * DS4_VK_BATCHES * DS4_VK_BATCH_CALLS + 1;
    float got[2 * 100];
    ds4_err *err;
    norm t;
    (void)state;
    norm_init(&t, b, 2, 100, true);
    for (uint32_t i = 0; i < n_call; i++) {
        ds4_call c = t.call;
        c.bind[0] = i % 2 ? t.y : t.x, c.bind[2] = i % 2 ? t.x : t.y;
        OK(b->ops->call(b, &c, 0, err));
        ds4_ref_call ref = {.args = &t.args,
                            .bind = {i % 2 ? t.want : t.in, t.weight, i % 2 ? t.in : t.want},
                            .variants = c.variants};
        ds4_op_reference(DS4_OP_rms_norm, &ref, (ds4_box){0, 2, 0, 1});
    }
    OK(b->ops->sync(b, err));
    OK(b->ops->buf_read(b, t.y, 0, got, sizeof got, err));
    assert_memory_equal(got, t.want, sizeof got);
    norm_fini(&t, b);
}

static void test_call_with_wrong_bindings_is_refused(void **state) {
    ds4_backend *b = device(MAPPED);
    norm t;
    (void)state;
    norm_init(&t, b, 1, 16, true);
    t.call.n_bind = 2;
    assert_int_equal(b->ops->call(b, &t.call, 0, NULL), DS4_ERR_INTERNAL);
    t.call.n_bind = 3, t.call.args_bytes -= 4;
    assert_int_equal(b->ops->call(b, &t.call, 0, NULL), DS4_ERR_INTERNAL);
    t.call.args_bytes += 4, t.call.bind[2] = t.w;
    assert_int_equal(b->ops->call(b, &t.call, 0, NULL), DS4_ERR_INTERNAL);
    t.call.bind[2] = t.y;
    assert_int_equal(b->ops->call(b, &t.call, 1000, NULL), DS4_ERR_INTERNAL);
    norm_fini(&t, b);
}

static void test_facts_name_the_kernels_that_ran(void **state) {
    ds4_backend *b = device(MAPPED);
    const char *key, *value;
    int seen = 0;
    (void)state;
    check_strict(b, 1, 16, true);
    for (uint32_t i = 0; b->ops->fact(b, i, &key, &value); i++)
        if (!strcmp(key, "spirv.rms_norm__strict")) seen++, assert_int_equal(strlen(value), 32);
    assert_int_equal(seen, 1);
}

static void test_tensor_rows_are_refused_by_the_variant(void **state) {
    ds4_backend *b = device(MAPPED);
    struct ds4_args_matmul args = {4096, 256, 4, 1024, 256, 4};
    ds4_call c = {.tap = DS4_TAP_logits, .args = &args, .args_bytes = sizeof args, .n_bind = 3};
    (void)state;
    for (uint32_t i = 0; i < b->ops->n_row(b, DS4_OP_matmul); i++) {
        bool tensor = b->ops->row(b, DS4_OP_matmul, i)->tensor;
        c.variants = 0;
        const char *plain = b->ops->refuses(b, &c, i);
        c.variants = DS4_VARIANT_BIT(TENSOR_MATMUL_DISABLE);
        const char *off = b->ops->refuses(b, &c, i);
        if (tensor && !plain) assert_string_equal(off, "DS4_TENSOR_MATMUL_DISABLE is on");
        if (!tensor) assert_ptr_equal(plain, off);
    }
    assert_null(b->ops->refuses(b, &c, 0));
}

static void test_rows_with_too_few_tokens_are_refused(void **state) {
    ds4_backend *b = device(MAPPED);
    size_t n_row;
    const ds4_vk_row *row = ds4_vk_row_table(&n_row);
    (void)state;
    for (size_t i = 0; i < n_row; i++) {
        if (row[i].op != DS4_OP_matmul || row[i].min_tok < 2) continue;
        struct ds4_args_matmul args = {row[i].min_tok, 256, 4, 1024, 256, 4};
        ds4_call c = {.tap = DS4_TAP_logits, .args = &args, .args_bytes = sizeof args};
        uint32_t k = 0;
        while (strcmp(b->ops->row(b, DS4_OP_matmul, k)->name, row[i].info.name) != 0) k++;
        if (b->ops->row(b, DS4_OP_matmul, k)->lacks) continue;
        assert_null(b->ops->refuses(b, &c, k));
        args.n_tok--;
        assert_string_equal(b->ops->refuses(b, &c, k), row[i].min_tok_text);
    }
}

static ds4_vk_reflection reflect(const ds4_vk_row *row) {
    const uint32_t local[3] = {row->lx, row->ly, 1};
    ds4_vk_reflection r;
    ds4_err *err;
    OK(ds4_vk_reflect(&r, row->code[0], (size_t)(row->code_end[0] - row->code[0]), local,
                      row->name, err));
    return r;
}

/* No device: the manifest and its modules alone. */
static void test_manifest_agrees_with_its_modules(void **state) {
    size_t n;
    const ds4_vk_row *row = ds4_vk_row_table(&n);
    ds4_err *err;
    (void)state;
    assert_true(n > 0);
    for (size_t i = 0; i < n; i++) {
        if (!row[i].code[0]) continue; /* a member of a fused row */
        if (ds4_vk_row_left_out(&row[i])) continue;
        ds4_vk_reflection r = reflect(&row[i]);
        OK(ds4_vk_row_check(&row[i], &r, err));
        assert_int_equal(r.local[0], 0); /* set by constant 0 */
    }
}

static void check_disagrees(const ds4_vk_row *row, const ds4_vk_reflection *r,
                            const char *word) {
    ds4_err err = {0};
    assert_int_equal(ds4_vk_row_check(row, r, &err), DS4_ERR_INTERNAL);
    if (!strstr(err.message, word)) fail_msg("'%s' does not say '%s'", err.message, word);
}

static const ds4_vk_row *row_of(ds4_op op) {
    size_t n;
    const ds4_vk_row *row = ds4_vk_row_table(&n);
    for (size_t i = 0; i < n; i++)
        if (row[i].op == op) return &row[i];
    fail();
    return NULL;
}

static void test_check_finds_each_planted_disagreement(void **state) {
    ds4_vk_row bad = *row_of(DS4_OP_rms_norm);
    const ds4_vk_reflection r = reflect(&bad);
    ds4_vk_reflection s = r;
    ds4_err *err;
    (void)state;
    OK(ds4_vk_row_check(&bad, &r, err));
    bad.op = DS4_OP_kv_round; /* one input */
    check_disagrees(&bad, &r, "buffers");
    bad.op = DS4_OP_add; /* two inputs too, other arguments */
    check_disagrees(&bad, &r, "arguments");
    bad.op = DS4_OP_rms_norm, bad.per_x = 0;
    check_disagrees(&bad, &r, "zero");
    bad.per_x = 1, s.local[1] = bad.ly + 1;
    check_disagrees(&bad, &s, "local size");
    s = r, s.caps |= DS4_VK_CAP_BIT(SG_BASIC), bad.needs = 0;
    check_disagrees(&bad, &s, "subgroups");
}

/* Every word cut off, every word of the head zeroed: an error or an answer, never a crash. */
static void test_reflect_survives_damage(void **state) {
    const ds4_vk_row *row = row_of(DS4_OP_add);
    const uint32_t local[3] = {64, 1, 1};
    const size_t n = (size_t)(row->code_end[0] - row->code[0]);
    uint32_t *copy = malloc(n * 4);
    ds4_vk_reflection r;
    (void)state;
    assert_non_null(copy);
    for (size_t cut = 0; cut < n; cut++) {
        uint32_t *exact = malloc(cut * 4 + 4);
        assert_non_null(exact);
        memcpy(exact, row->code[0], cut * 4);
        (void)ds4_vk_reflect(&r, exact, cut, local, "cut", NULL);
        free(exact);
    }
    for (size_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < 3; k++) {
            memcpy(copy, row->code[0], n * 4);
            copy[i] = k == 0 ? 0 : k == 1 ? UINT32_MAX : copy[i] ^ 0x00010001u;
            (void)ds4_vk_reflect(&r, copy, n, local, "damaged", NULL);
        }
    assert_int_equal(ds4_vk_reflect(&r, copy, 0, local, "empty", NULL), DS4_ERR_INTERNAL);
    free(copy);
}

static void test_open_survives_each_failing_allocation(void **state) {
    ds4_vk_options opt = {.device = -1};
    ds4_status st = DS4_ERR_MEMORY;
    (void)state;
    device(MAPPED);
    for (long k = 1; st == DS4_ERR_MEMORY && k < 1000; k++) {
        ds4_backend *b = NULL;
        ds4_mem_fail_after(k);
        st = ds4_vk_open(&b, &opt, NULL);
        ds4_mem_fail_after(0);
        assert_int_equal(st == DS4_OK, b != NULL);
        if (b) b->ops->close(b);
    }
    assert_int_equal(st, DS4_OK);
}

/* A buffer of no bytes is an error that the layers see and the next sync reports. */
static void test_sync_reports_a_planted_validation_message(void **state) {
    ds4_vk_options opt = {.device = -1, .validation = true};
    ds4_vk_device *d = NULL;
    ds4_vk_graph *g = NULL;
    VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                               .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT};
    VkBuffer buffer = VK_NULL_HANDLE;
    ds4_err fault = {0}, *err;
    (void)state;
    device(MAPPED);
    if (ds4_vk_device_open(&d, &opt, &fault) != DS4_OK) {
        print_message("%s\n", fault.message);
        skip();
    }
    OK(ds4_vk_graph_new(&g, d, true, err));
    OK(ds4_vk_graph_sync(g, err));
    if (vkCreateBuffer(d->device, &info, NULL, &buffer) == VK_SUCCESS)
        vkDestroyBuffer(d->device, buffer, NULL);
    assert_true(ds4_vk_device_messages(d, NULL, 0) > 0);
    assert_int_equal(ds4_vk_graph_sync(g, &fault), DS4_ERR_INTERNAL);
    assert_non_null(strstr(fault.message, "validation"));
    ds4_vk_graph_free(g);
    ds4_vk_device_close(d);
}

/* ---- weights that are imported ---- */

enum { FILE_BYTES = 3 * 4096 + 256 }; /* ends within a page */

/* Floats everywhere but in 16 bytes that are zero, at byte 1024 + 76. The caller unmaps it. */
static const uint8_t *weight_file(void) {
    char path[] = "/tmp/ds4-weights-XXXXXX";
    float w[FILE_BYTES / 4];
    int fd = mkstemp(path);
    fill_floats(w, FILE_BYTES / 4, 11);
    memset((uint8_t *)w + 1024 + 76, 0, 16);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, w, sizeof w), sizeof w);
    const uint8_t *p = mmap(NULL, sizeof w, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    close(fd), remove(path);
    return p;
}

/* The strict row with weights at w equals the reference, and so does what is read back. */
static void check_weight(ds4_backend *b, const uint8_t *w, uint32_t n_col) {
    float got[128], back[128];
    ds4_err *err;
    norm t;
    norm_init(&t, b, 1, n_col, false);
    memcpy(t.weight, w, n_col * 4u);
    t.args.has_w = 1;
    ds4_ref_call ref = {
        .args = &t.args, .bind = {t.in, t.weight, t.want}, .variants = t.call.variants};
    ds4_op_reference(DS4_OP_rms_norm, &ref, (ds4_box){0, 1, 0, 1});
    OK(b->ops->buf_weight(b, &t.w, w, n_col * 4u, "w", err));
    t.call.bind[1] = t.w;
    OK(b->ops->call(b, &t.call, 0, err));
    OK(b->ops->buf_read(b, t.y, 0, got, n_col * 4u, err));
    assert_memory_equal(got, t.want, n_col * 4u);
    OK(b->ops->buf_read(b, t.w, 0, back, n_col * 4u, err));
    assert_memory_equal(back, w, n_col * 4u);
    norm_fini(&t, b);
}

static const char *fact(ds4_backend *b, const char *name) {
    const char *key, *value;
    for (uint32_t i = 0; b->ops->fact(b, i, &key, &value); i++)
        if (!strcmp(key, name)) return value;
    return "";
}

static void check_weights(ds4_backend *b, const char *want) {
    if (strcmp(fact(b, "weights"), want) != 0)
        fail_msg("weights: found \"%s\", wanted \"%s\"", fact(b, "weights"), want);
}

/* Aligned for every device; across pages; to the end of the file; followed by zeros, by other
 * bytes; begun where nothing can be bound; at every multiple of 16; outside of the file. */
static void test_weight_is_imported_where_it_can_be_bound(void **state) {
    ds4_vk_options opt = {.device = -1, .validation = true, .import = "on"};
    ds4_backend *b = NULL;
    const uint8_t *file = weight_file();
    float other[64];
    ds4_err *err;
    (void)state;
    device(MAPPED);
    if (ds4_vk_open(&b, &opt, NULL) != DS4_OK) { /* without the layers */
        opt.validation = false;
        OK(ds4_vk_open(&b, &opt, err));
    }
    assert_string_equal(fact(b, "weights"), "");
    b->ops->weights_in(b, file, FILE_BYTES);
    if (!strncmp(fact(b, "weights"), "imported 0 bytes, copied 0 bytes: the driver", 44)) {
        print_message("%s\n", fact(b, "weights"));
        b->ops->close(b);
        skip();
    }
    check_weight(b, file + 256, 20);
    check_weight(b, file + 4096 - 256, 128);
    check_weight(b, file + FILE_BYTES - 256, 64);
    check_weight(b, file + 1024, 19); /* zeros follow */
    check_weights(b, "imported 924 bytes, copied 0 bytes");
    check_weight(b, file + 2048, 19);
    check_weights(b,
                  "imported 924 bytes, copied 76 bytes: a weight is not followed by zeros up "
                  "to a multiple of 16 bytes");
    check_weight(b, file + 8, 20);
    check_weights(b, "imported 924 bytes, copied 156 bytes: a weight is not followed by zeros "
                     "up to a multiple of 16 bytes");
    for (size_t off = 4096; off < 4096 + 256; off += 16) check_weight(b, file + off, 20);
    fill_floats(other, 64, 12);
    check_weight(b, (const uint8_t *)other, 64); /* counted nowhere */
    assert_int_equal(strncmp(fact(b, "weights"), "imported ", 9), 0);
    assert_string_equal(fact(b, "validation_messages"), "0");
    assert_true(b->ops->close(b));
    munmap((void *)file, FILE_BYTES);
}

/* From the first refused import on everything is copied. */
static void test_weight_is_copied_when_the_import_is_refused(void **state) {
    ds4_vk_options opt = {.device = -1, .import = "on"};
    ds4_backend *b = NULL;
    const uint8_t *file = weight_file();
    ds4_err *err;
    (void)state;
    device(MAPPED);
    for (uint32_t i = 1; !b; i++) { /* past the allocations of the opening */
        static char limits[32];
        snprintf(limits, sizeof limits, "fail_alloc=%u", i);
        opt.limits = limits;
        assert_true(i < 100);
        if (ds4_vk_open(&b, &opt, NULL) != DS4_OK) continue;
    }
    b->ops->weights_in(b, file, FILE_BYTES);
    ds4_buf *w[2] = {NULL};
    for (int i = 0; i < 2; i++) OK(b->ops->buf_weight(b, &w[i], file + 256, 80, "w", err));
    const char *text = fact(b, "weights");
    if (strncmp(text, "imported 0 bytes, copied 160 bytes: the driver", 46) != 0)
        fail_msg("%s", text);
    for (int i = 0; i < 2; i++) b->ops->buf_free(b, w[i]);
    check_weight(b, file + 256, 20);
    assert_true(b->ops->close(b));
    munmap((void *)file, FILE_BYTES);
}

static bool is_mapped(const char *name) {
    char line[512];
    bool found = false;
    FILE *f = fopen("/proc/self/maps", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) found |= strstr(line, name) != NULL;
    fclose(f);
    return found;
}

/* What a hung device may still read stays where it is. */
static void test_model_stays_mapped_where_a_device_hangs(void **state) {
    static const char model[] = "fixtures/tiny/ds4-tiny-q2.gguf";
    const ds4_engine_options opt = {.engine = "vk", .device = -1};
    (void)state;
    device(MAPPED);
    for (int hang = 0; hang < 2; hang++) {
        ds4_engine *e = NULL;
        ds4_err *err;
        for (int i = 1; hang && !e; i++) { /* past the waits of the opening */
            char limits[32];
            snprintf(limits, sizeof limits, "hang_wait=%d", i);
            setenv("DS4_VK_LIMITS", limits, 1);
            assert_true(i < 50);
            (void)ds4_engine_open(&e, model, &opt, NULL);
        }
        if (!hang) OK(ds4_engine_open(&e, model, &opt, err));
        ds4_backend *b = ds4_engine_backend(e);
        assert_true(is_mapped(model));
        if (hang) {
            norm t;
            norm_init(&t, b, 1, 64, false);
            OK(b->ops->call(b, &t.call, 0, err));
            assert_int_equal(b->ops->sync(b, NULL), DS4_ERR_ENVIRONMENT);
            norm_fini(&t, b);
        }
        ds4_engine_close(e);
        assert_int_equal(is_mapped(model), hang);
    }
    unsetenv("DS4_VK_LIMITS");
}

/* ---- the pipeline cache ---- */

/* The fact of a device opened and closed with a cache folder; what it compiled is then saved.
 */
static void cache_outcome(char out[256], const char *dir) {
    const ds4_vk_options opt = {.device = -1, .cache_dir = dir};
    ds4_backend *b = NULL;
    ds4_err fault = {0};
    const char *key, *value;
    if (ds4_vk_open(&b, &opt, &fault) != DS4_OK) fail_msg("%s", fault.message);
    out[0] = 0;
    for (uint32_t i = 0; b->ops->fact(b, i, &key, &value); i++)
        if (!strcmp(key, "pipeline_cache")) snprintf(out, 256, "%s", value);
    b->ops->close(b);
}

/* The one file of the folder. */
static void cache_file(char out[320], const char *dir) {
    glob_t found;
    char pattern[300];
    snprintf(pattern, sizeof pattern, "%s/*", dir);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 1);
    snprintf(out, 320, "%s", found.gl_pathv[0]);
    globfree(&found);
}

static void test_cache_is_kept_and_damage_is_a_miss(void **state) {
    char dir[] = "/tmp/ds4-cache-XXXXXX", path[320], text[256], second[256];
    struct stat sb;
    (void)state, (void)device(MAPPED);
    assert_non_null(mkdtemp(dir));

    cache_outcome(text, NULL);
    assert_string_equal(text, "off");
    cache_outcome(text, dir);
    assert_string_equal(text, "cold");
    cache_file(path, dir);
    cache_outcome(second, dir); /* Mesa 22.3's llvmpipe hands out no pipelines */
    assert_true(!strcmp(second, "warm") || !strcmp(second, "cold: the driver keeps nothing"));

    assert_int_equal(stat(path, &sb), 0);
    for (off_t at = 0; at < sb.st_size; at += sb.st_size / 16 + 1) { /* one bit, anywhere */
        FILE *f = fopen(path, "r+b");
        assert_non_null(f);
        fseek(f, at, SEEK_SET);
        int c = fgetc(f);
        fseek(f, at, SEEK_SET);
        fputc(c ^ 1, f);
        fclose(f);
        cache_outcome(text, dir);
        assert_string_equal(text, "cold: the file was damaged");
        cache_outcome(text, dir); /* it was replaced */
        assert_string_equal(text, second);
    }
    assert_int_equal(truncate(path, sb.st_size - 1), 0);
    cache_outcome(text, dir);
    assert_string_equal(text, "cold: the file was damaged");
    cache_file(path, dir); /* no partial file beside it */
    remove(path), remove(dir);
}

/* A folder in the file's place can be neither read nor replaced. */
static void test_cache_that_cannot_be_kept_is_said(void **state) {
    char dir[] = "/tmp/ds4-cache-XXXXXX", path[320], text[256];
    (void)state, (void)device(MAPPED);
    assert_non_null(mkdtemp(dir));
    cache_outcome(text, dir);
    cache_file(path, dir);
    assert_int_equal(remove(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    cache_outcome(text, dir);
    if (strncmp(text, "cold: the file was damaged; could not be kept: ", 47) ||
        !strstr(text, dir))
        fail_msg("found \"%s\"", text);
    cache_file(path, dir); /* no partial file beside it */
    assert_int_equal(rmdir(path), 0);
    cache_outcome(text, dir); /* and now it can */
    assert_string_equal(text, "cold");
    remove(path), remove(dir);
}

static void test_cache_folder_that_is_a_file_is_an_error(void **state) {
    const ds4_vk_options opt = {.device = -1, .cache_dir = "/dev/null"};
    ds4_backend *b = NULL;
    ds4_err fault = {0};
    (void)state, (void)device(MAPPED);
    assert_int_equal(ds4_vk_open(&b, &opt, &fault), DS4_ERR_IO);
    assert_non_null(strstr(fault.message, "/dev/null"));
    assert_null(b);
}

/* Last: everything above ran under the layers, where they are installed. */
static void test_validation_has_said_nothing(void **state) {
    (void)state;
    for (int mode = 0; mode < N_MODE; mode++) {
        ds4_backend *b = device(mode);
        const char *key, *value;
        for (uint32_t i = 0; b->ops->fact(b, i, &key, &value); i++)
            if (!strcmp(key, "validation_messages")) assert_string_equal(value, "0");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_names_every_device),
        cmocka_unit_test(test_open_past_the_last_device_is_usage),
        cmocka_unit_test(test_buffer_round_trips_at_odd_sizes),
        cmocka_unit_test(test_buffer_larger_than_the_staging_arrives_whole),
        cmocka_unit_test(test_buffer_past_its_end_is_refused),
        cmocka_unit_test(test_buffer_past_the_memory_names_both_sizes),
        cmocka_unit_test(test_call_strict_equals_reference),
        cmocka_unit_test(test_call_past_the_group_limit_is_split),
        cmocka_unit_test(test_call_past_the_group_limit_is_split_in_x_and_y),
        cmocka_unit_test(test_call_chain_longer_than_a_batch_keeps_order),
        cmocka_unit_test(test_call_with_wrong_bindings_is_refused),
        cmocka_unit_test(test_facts_name_the_kernels_that_ran),
        cmocka_unit_test(test_tensor_rows_are_refused_by_the_variant),
        cmocka_unit_test(test_rows_with_too_few_tokens_are_refused),
        cmocka_unit_test(test_manifest_agrees_with_its_modules),
        cmocka_unit_test(test_check_finds_each_planted_disagreement),
        cmocka_unit_test(test_reflect_survives_damage),
        cmocka_unit_test(test_open_survives_each_failing_allocation),
        cmocka_unit_test(test_sync_reports_a_planted_validation_message),
        cmocka_unit_test(test_weight_is_imported_where_it_can_be_bound),
        cmocka_unit_test(test_weight_is_copied_when_the_import_is_refused),
        cmocka_unit_test(test_model_stays_mapped_where_a_device_hangs),
        cmocka_unit_test(test_cache_is_kept_and_damage_is_a_miss),
        cmocka_unit_test(test_cache_that_cannot_be_kept_is_said),
        cmocka_unit_test(test_cache_folder_that_is_a_file_is_an_error),
        cmocka_unit_test(test_validation_has_said_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
