/* The formulas of every op, once, over an arithmetic that the including file defines: order.c
 * (f32, sums in random order), sround.c (f32, random roundings), f64.c (float64). Not a header
 * to include twice from one file: it makes static functions, and each file takes the rows it
 * wants.
 *
 * With the plain arithmetic of the bit contract these formulas give the bits of
 * engine/ops/<op>.c (tests/test_formula.c); bindings, grids and the meaning of every step are
 * written there.
 *
 * The including file defines:
 *   NUM                   the type of activations: bindings of f32 elements have this type
 *   ROW(op)               the name of an op's function
 *   arith                 what one output element carries through its steps (a stream of random
 *                         bits, or nothing)
 *   begin(c, e)           the arith of output element e of call c; where a unit of the grid
 * makes several elements, that of its first add sub mul quo root (k, ...)       one step each:
 * + - * / sqrt exp_ tanh_ sigmoid_ rsqrt_ sqrt_softplus_ (k, x), cos_sin(k, &c, &s, turn)
 *   dot(k, a, b, n)       sum of a[i] * b[i]
 *   perm, perm_of(k, n), perm_at(&p, i)  the order in which another sum takes its n terms
 *   half(k, x)            x rounded to f16
 *   keep(x)               what is stored of a result
 *   attention_scale(a)    the factor of attention scores */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/fmath64.h"
#include "engine/format/quant.h"
#include "engine/ops/participants.h"
#include "engine/ref/rows.h"
#include "engine/variants.h"

/* static inline: a file that takes no row of an op leaves its formula out without a word. */
#define FORMULA(op) static inline void ROW(op)(const ds4_ref_call *c, ds4_box box)

/* A weight row as the format defines it, each value an f32; keep() makes what the contract
 * makes of it where the row has no rounding of its own. */
static inline void weight_row(NUM *dst, const uint8_t *src, uint32_t wtype, uint32_t n) {
    const ds4_quant *q = ds4_quant_by_id(wtype);
    float v[DS4_MAX_ROW];
    q->decode(v, src, n / q->n_elem);
    bool plain = wtype == DS4_QUANT_F32 || wtype == DS4_QUANT_BF16;
    for (uint32_t i = 0; i < n; i++) dst[i] = plain ? keep((NUM)v[i]) : (NUM)v[i];
}

FORMULA(embed) {
    const struct ds4_args_embed *a = c->args;
    const uint8_t *w = c->bind[0];
    const int32_t *token = c->bind[1];
    NUM *y = c->bind[2], row[DS4_MAX_ROW];

    for (uint32_t t = box.y0; t < box.y1; t++) {
        weight_row(row, w + (size_t)token[t] * a->row_bytes, c->wtype, a->n_embd);
        for (uint32_t s = 0; s < a->n_hc; s++)
            for (uint32_t i = box.x0; i < box.x1; i++)
                y[((size_t)t * a->n_hc + s) * a->n_embd + i] = keep(row[i]);
    }
}

FORMULA(rms_norm) {
    const struct ds4_args_rms_norm *a = c->args;
    const NUM *w = c->bind[1];
    bool exact = c->variants & DS4_VARIANT_BIT(NORM_RSQRT_DISABLE);

    for (uint32_t r = box.x0; r < box.x1; r++) {
        size_t at = (size_t)r * a->n_col;
        const NUM *x = (const NUM *)c->bind[0] + at;
        NUM *y = (NUM *)c->bind[2] + at;
        arith s = begin(c, at), *k = &s;
        NUM v = add(k, quo(k, dot(k, x, x, a->n_col), (NUM)a->n_col), (NUM)a->eps);
        NUM scale = exact ? quo(k, (NUM)1, root(k, v)) : rsqrt_(k, v);
        for (uint32_t i = 0; i < a->n_col; i++) {
            NUM p = mul(k, x[i], scale);
            y[i] = keep(a->has_w ? mul(k, p, w[i]) : p);
        }
    }
}

FORMULA(matmul) {
    const struct ds4_args_matmul *a = c->args;
    const uint8_t *w = c->bind[0];
    const NUM *x = c->bind[1];
    NUM *y = c->bind[2], row[DS4_MAX_ROW];

    for (uint32_t r = box.x0; r < box.x1; r++) {
        size_t slice = (size_t)(r / a->group_rows) * a->n_in;
        weight_row(row, w + (size_t)r * a->row_bytes, c->wtype, a->n_in);
        for (uint32_t t = box.y0; t < box.y1; t++) {
            size_t at = (size_t)t * a->n_out + r;
            arith k = begin(c, at);
            y[at] = keep(dot(&k, row, x + (size_t)t * a->x_stride + slice, a->n_in));
        }
    }
}

FORMULA(matmul_id) {
    const struct ds4_args_matmul_id *a = c->args;
    const uint8_t *w = c->bind[0];
    const NUM *x = c->bind[1];
    const int32_t *sel = c->bind[2];
    NUM *y = c->bind[3], row[DS4_MAX_ROW];

    for (uint32_t r = box.x0; r < box.x1; r++)
        for (uint32_t m = 0; m < a->n_mat; m++) {
            bool have = false; /* one decoded row serves every slot that selects its matrix */
            for (uint32_t s = box.y0; s < box.y1; s++) {
                if ((uint32_t)sel[s] != m) continue;
                if (!have)
                    weight_row(row, w + ((size_t)m * a->n_out + r) * a->row_bytes, c->wtype,
                               a->n_in);
                have = true;
                size_t in = a->x_per_slot ? s : s / a->n_slot, at = (size_t)s * a->n_out + r;
                arith k = begin(c, at);
                y[at] = keep(dot(&k, row, x + in * a->n_in, a->n_in));
            }
        }
}

/* ---- hyper-connections ---- */

/* The sum of four values, stride s apart. */
static inline NUM sum4(arith *k, const NUM *v, int s) {
    perm p = perm_of(k, 4);
    NUM sum = v[s * (int)perm_at(&p, 0)];
    for (uint32_t i = 1; i < 4; i++) sum = add(k, sum, v[s * (int)perm_at(&p, i)]);
    return sum;
}

/* Divides each of four rows (first element r * across, elements `along` apart) by its sum. */
static inline void sinkhorn_step(arith *k, NUM m[16], int across, int along, NUM eps) {
    for (int r = 0; r < 4; r++) {
        NUM *v = m + r * across;
        NUM inv = quo(k, (NUM)1, add(k, sum4(k, v, along), eps));
        for (int i = 0; i < 4; i++) v[i * along] = mul(k, v[i * along], inv);
    }
}

static inline void softmax4(arith *k, NUM v[4], NUM eps) {
    NUM top = v[0];
    for (int i = 1; i < 4; i++) top = v[i] > top ? v[i] : top;
    for (int i = 0; i < 4; i++) v[i] = exp_(k, sub(k, v[i], top));
    NUM inv = quo(k, (NUM)1, sum4(k, v, 1));
    for (int i = 0; i < 4; i++) v[i] = add(k, mul(k, v[i], inv), eps);
}

/* The gates of the streams: 1/(1 + e^-z) and twice that, or their forms by tanh. */
static inline NUM split_gate(arith *k, NUM z, bool stable, bool twice) {
    if (stable) {
        NUM h = tanh_(k, mul(k, (NUM)0.5, z));
        if (twice) return add(k, (NUM)1, h);
        return add(k, mul(k, (NUM)0.5, h), (NUM)0.5);
    }
    NUM h = keep(quo(k, (NUM)1, add(k, (NUM)1, exp_(k, -z))));
    return twice ? mul(k, (NUM)2, h) : h;
}

FORMULA(hc_split) {
    const struct ds4_args_hc_split *a = c->args;
    const NUM *scale = c->bind[1], *base = c->bind[2];
    bool stable = c->variants & DS4_VARIANT_BIT(HC_STABLE);
    NUM eps = (NUM)a->eps;

    for (uint32_t t = box.x0; t < box.x1; t++) {
        const NUM *mix = (const NUM *)c->bind[0] + (size_t)t * 24;
        NUM *y = (NUM *)c->bind[3] + (size_t)t * 24, m[16];
        arith s = begin(c, (size_t)t * 24), *k = &s;
        for (int i = 0; i < 8; i++) {
            NUM z = add(k, mul(k, mix[i], scale[i / 4]), base[i]);
            NUM h = split_gate(k, z, stable, i >= 4);
            y[i] = keep(i < 4 ? add(k, h, eps) : h);
        }
        for (int i = 0; i < 16; i++) m[i] = add(k, mul(k, mix[8 + i], scale[2]), base[8 + i]);
        for (int r = 0; r < 4; r++) softmax4(k, m + 4 * r, eps);
        sinkhorn_step(k, m, 1, 4, eps);
        for (uint32_t round = 1; round < a->n_sinkhorn; round++) {
            sinkhorn_step(k, m, 4, 1, eps);
            sinkhorn_step(k, m, 1, 4, eps);
        }
        for (int i = 0; i < 16; i++) y[8 + i] = keep(m[i]);
    }
}

FORMULA(hc_gate) {
    const struct ds4_args_hc_gate *a = c->args;
    const NUM *mix = c->bind[0], *scale = c->bind[1], *base = c->bind[2];
    NUM *w = c->bind[3];

    for (size_t i = (size_t)box.x0 * a->n_hc; i < (size_t)box.x1 * a->n_hc; i++) {
        arith s = begin(c, i), *k = &s;
        NUM z = add(k, mul(k, mix[i], scale[0]), base[i % a->n_hc]);
        w[i] = keep(add(k, sigmoid_(k, z), (NUM)a->eps));
    }
}

FORMULA(hc_read) {
    const struct ds4_args_hc_read *a = c->args;

    for (uint32_t t = box.y0; t < box.y1; t++) {
        const NUM *x = (const NUM *)c->bind[0] + (size_t)t * a->n_hc * a->n_embd;
        const NUM *w = (const NUM *)c->bind[1] + (size_t)t * a->w_stride;
        for (uint32_t i = box.x0; i < box.x1; i++) {
            size_t at = (size_t)t * a->n_embd + i;
            arith k = begin(c, at);
            perm p = perm_of(&k, a->n_hc);
            NUM sum = (NUM)0;
            for (uint32_t j = 0; j < a->n_hc; j++) {
                uint32_t s = perm_at(&p, j);
                sum = add(&k, sum, mul(&k, x[(size_t)s * a->n_embd + i], w[s]));
            }
            ((NUM *)c->bind[2])[at] = keep(sum);
        }
    }
}

FORMULA(hc_write) {
    const struct ds4_args_hc_write *a = c->args;
    size_t n = a->n_embd;

    for (uint32_t t = box.y0; t < box.y1; t++) {
        const NUM *x = (const NUM *)c->bind[0] + (size_t)t * 4 * n;
        const NUM *y = (const NUM *)c->bind[1] + (size_t)t * n;
        const NUM *post = (const NUM *)c->bind[2] + (size_t)t * 24 + 4, *comb = post + 4;
        for (uint32_t b = 0; b < 4; b++)
            for (uint32_t i = box.x0; i < box.x1; i++) {
                size_t at = ((size_t)t * 4 + b) * n + i;
                arith k = begin(c, at);
                perm p = perm_of(&k, 5); /* term 0 is the block's output, s + 1 stream s */
                NUM sum = (NUM)0;
                for (uint32_t j = 0; j < 5; j++) {
                    uint32_t s = perm_at(&p, j);
                    NUM term = s ? mul(&k, comb[4 * (s - 1) + b], x[(s - 1) * n + i])
                                 : mul(&k, y[i], post[b]);
                    sum = add(&k, sum, term);
                }
                ((NUM *)c->bind[3])[at] = keep(sum);
            }
    }
}

/* ---- rotation and storage ---- */

FORMULA(rope) {
    const struct ds4_args_rope *a = c->args;
    const uint32_t *freq = c->bind[1];
    uint32_t n_pass = a->d_head - a->n_rot;

    for (uint32_t r = box.y0; r < box.y1; r++)
        for (uint32_t h = box.x0; h < box.x1; h++) {
            size_t off = ((size_t)r * a->n_head + h) * a->d_head;
            const NUM *x = (const NUM *)c->bind[0] + off;
            NUM *y = (NUM *)c->bind[2] + off;
            arith s = begin(c, off), *k = &s;
            memcpy(y, x, n_pass * sizeof *y);
            for (uint32_t i = n_pass; i < a->d_head; i += 2) {
                NUM cs, sn;
                uint32_t pair = i - n_pass; /* two words of turns per pair */
                uint64_t turn = (uint64_t)freq[pair + 1] << 32 | freq[pair];
                cos_sin(k, &cs, &sn, turn * (uint64_t)(uint32_t)(a->pos0 + r * a->pos_step));
                if (a->inverse) sn = -sn;
                y[i] = keep(sub(k, mul(k, x[i], cs), mul(k, x[i + 1], sn)));
                y[i + 1] = keep(add(k, mul(k, x[i], sn), mul(k, x[i + 1], cs)));
            }
        }
}

/* The least e with m <= most * 2^e: the scale of a block whose format ends at `most`. */
static inline int block_exponent(double m, double most) {
    int e;
    if (!(m > 0.0)) return 0;
    frexp(m / most, &e);
    return m <= ldexp(most, e - 1) ? e - 1 : e;
}

/* The codes of blocks are nearest in every arithmetic, and exact: only f16 goes by it. */
FORMULA(kv_round) {
    const struct ds4_args_kv_round *a = c->args;
    bool exact = c->variants & DS4_VARIANT_BIT(STORE_EXACT),
         raw = exact || c->variants & DS4_VARIANT_BIT(KV_RAW_F32);

    for (uint32_t r = box.y0; r < box.y1; r++)
        for (uint32_t b = box.x0; b < box.x1; b++) {
            size_t off = (size_t)r * a->d_head + 64 * b;
            const NUM *x = (const NUM *)c->bind[0] + off;
            NUM *y = (NUM *)c->bind[1] + off;
            uint32_t n = a->d_head - 64 * b < 64 ? a->d_head - 64 * b : 64;
            bool fp8 = 64 * b < a->n_fp8 && !exact;
            arith k = begin(c, off);
            double m = (double)1e-4f;
            for (uint32_t i = 0; fp8 && i < n; i++)
                m = fabs((double)x[i]) > m ? fabs((double)x[i]) : m;
            int e = block_exponent(m, 448.0);
            for (uint32_t i = 0; i < n; i++) {
                NUM v = x[i];
                if (fp8) v = (NUM)ldexp(ds4_f64_grid(ldexp((double)v, -e), 3, -6), e);
                y[i] = keep(raw ? v : half(&k, v));
            }
        }
}

FORMULA(index_round) {
    const struct ds4_args_index_round *a = c->args;
    bool exact = c->variants & DS4_VARIANT_BIT(STORE_EXACT);

    for (uint32_t r = box.x0; r < box.x1; r++) {
        NUM v[128], *y = (NUM *)c->bind[1] + (size_t)r * 128;
        arith s = begin(c, (size_t)r * 128), *k = &s;
        memcpy(v, (const NUM *)c->bind[0] + (size_t)r * 128, sizeof v);
        perm p =
            perm_of(k, 7); /* the stages commute: each order is another tree of every sum */
        for (uint32_t j = 0; j < 7; j++)
            for (uint32_t i = 0, stride = 1u << perm_at(&p, j); i < 128; i++) {
                if (i & stride) continue;
                NUM u = v[i], w = v[i + stride];
                v[i] = add(k, u, w), v[i + stride] = sub(k, u, w);
            }
        for (uint32_t i = 0; i < 128; i++)
            v[i] = keep(mul(k, v[i], (NUM)0.08838834764831844055)); /* 1 / sqrt(128) */
        for (uint32_t b = 0; b < 128; b += 32) {
            double m = 0.0;
            for (uint32_t i = b; i < b + 32; i++)
                m = fabs((double)v[i]) > m ? fabs((double)v[i]) : m;
            int e = block_exponent(m, 6.0);
            for (uint32_t i = b; i < b + 32; i++) {
                NUM q = (NUM)ldexp(ds4_f64_grid(ldexp((double)v[i], -e), 1, 0), e);
                y[i] = keep(exact ? v[i] : a->half_out ? half(k, q) : q);
            }
        }
    }
}

FORMULA(row_store) {
    const struct ds4_args_row_store *a = c->args;

    for (uint32_t r = box.y0; r < box.y1; r++) {
        const NUM *x = (const NUM *)c->bind[0] + (size_t)r * a->n_col;
        NUM *y = (NUM *)c->bind[1] + (size_t)((a->row0 + r) % a->cap) * a->n_col;
        memcpy(y + box.x0, x + box.x0, (size_t)(box.x1 - box.x0) * sizeof *y);
    }
}

/* ---- compressor and indexer ---- */

FORMULA(gate_bias) {
    const struct ds4_args_gate_bias *a = c->args;
    const uint8_t *ape = c->bind[1];
    NUM row[DS4_MAX_ROW];

    for (uint32_t t = box.y0; t < box.y1; t++) {
        const NUM *x = (const NUM *)c->bind[0] + (size_t)t * a->n_col;
        NUM *y = (NUM *)c->bind[2] + (size_t)t * a->n_col;
        weight_row(row, ape + (size_t)((a->pos0 + t) % a->ratio) * a->row_bytes, c->wtype,
                   a->n_col);
        for (uint32_t i = box.x0; i < box.x1; i++) {
            arith k = begin(c, (size_t)t * a->n_col + i);
            y[i] = keep(add(&k, x[i], row[i]));
        }
    }
}

/* Where token `pos` of column `col` stands in both rings. */
static inline size_t pool_at(const struct ds4_args_softmax_pool *a, int64_t pos, uint32_t col) {
    return (size_t)((uint32_t)pos % a->cap) * a->n_lane * a->d_head + col;
}

static inline NUM pool_one(arith *k, const ds4_ref_call *c, uint32_t row, uint32_t i) {
    const struct ds4_args_softmax_pool *a = c->args;
    const NUM *kv = c->bind[0], *gate = c->bind[1];
    int64_t first = (int64_t)row * a->ratio, before = first - a->ratio;
    bool two = a->n_lane == 2, has_before = before >= 0;
    uint32_t cur = two ? a->d_head + i : i;
    NUM m = (NUM)DS4_NEG, den = (NUM)0, num = (NUM)0;

    for (uint32_t t = 0; t < a->ratio; t++) {
        NUM g = gate[pool_at(a, first + t, cur)];
        m = g > m ? g : m;
        if (two && has_before) g = gate[pool_at(a, before + t, i)], m = g > m ? g : m;
    }
    perm p = perm_of(k, a->ratio);
    for (uint32_t j = 0; j < a->ratio; j++) {
        uint32_t t = perm_at(&p, j);
        size_t at = pool_at(a, first + t, cur);
        NUM w = exp_(k, sub(k, gate[at], m)), sum = w;
        if (two && has_before) {
            size_t was = pool_at(a, before + t, i);
            NUM wp = exp_(k, sub(k, gate[was], m));
            sum = add(k, wp, w);
            num = add(k, num, mul(k, wp, kv[was]));
        }
        den = add(k, den, sum);
        num = add(k, num, mul(k, w, kv[at]));
    }
    return keep(quo(k, num, den));
}

FORMULA(softmax_pool) {
    const struct ds4_args_softmax_pool *a = c->args;

    for (uint32_t r = box.y0; r < box.y1; r++)
        for (uint32_t i = box.x0; i < box.x1; i++) {
            size_t at = (size_t)r * a->d_head + i;
            arith k = begin(c, at);
            ((NUM *)c->bind[2])[at] = pool_one(&k, c, a->row0 + r, i);
        }
}

FORMULA(index_score) {
    const struct ds4_args_index_score *a = c->args;
    const NUM *key = c->bind[2];

    for (uint32_t t = box.y0; t < box.y1; t++) {
        const NUM *q = (const NUM *)c->bind[0] + (size_t)t * a->n_head * 128;
        const NUM *w = (const NUM *)c->bind[1] + (size_t)t * a->n_head;
        NUM *y = (NUM *)c->bind[3] + (size_t)t * a->n_row;
        uint32_t n_visible = (a->pos0 + t + 1) / a->ratio;
        for (uint32_t r = box.x0; r < box.x1; r++) {
            arith s = begin(c, (size_t)t * a->n_row + r), *k = &s;
            perm p = perm_of(k, a->n_head);
            NUM sum = (NUM)0;
            for (uint32_t j = 0; r < n_visible && j < a->n_head; j++) {
                uint32_t h = perm_at(&p, j);
                NUM d = dot(k, key + (size_t)r * 128, q + (size_t)h * 128, 128);
                NUM weight = mul(k, w[h], (NUM)a->scale);
                sum = add(k, sum, mul(k, d > (NUM)0 ? d : (NUM)0, weight));
            }
            y[r] = r < n_visible ? keep(sum) : (NUM)DS4_NEG;
        }
    }
}

/* The k-th largest key among n, by bisection over the key bits. */
static inline uint64_t kth_key(const NUM *score, uint32_t n, uint32_t k) {
    uint64_t key = 0;
    for (int bit = 63; bit >= 0; bit--) {
        uint64_t trial = key | 1ull << bit;
        uint32_t count = 0;
        for (uint32_t i = 0; i < n; i++) count += ds4_f64_select_key((double)score[i]) >= trial;
        if (count >= k) key = trial;
    }
    return key;
}

FORMULA(index_topk) {
    const struct ds4_args_index_topk *a = c->args;

    for (uint32_t t = box.x0; t < box.x1; t++) {
        const NUM *score = (const NUM *)c->bind[0] + (size_t)t * a->n_row;
        int32_t *sel = (int32_t *)c->bind[1] + (size_t)t * a->k;
        uint32_t n = (a->pos0 + t + 1) / a->ratio, n_above = 0, n_out = 0;
        if (n > a->n_row) n = a->n_row;
        uint64_t key = kth_key(score, n, a->k);
        for (uint32_t i = 0; i < n; i++) n_above += ds4_f64_select_key((double)score[i]) > key;
        uint32_t n_tie = a->k - n_above; /* rows equal to the k-th that still fit */
        for (uint32_t i = 0; i < n && n_out < a->k; i++) {
            uint64_t v = ds4_f64_select_key((double)score[i]);
            if (v > key) sel[n_out++] = (int32_t)i;
            else if (v == key && n_tie) sel[n_out++] = (int32_t)i, n_tie--;
        }
    }
}

/* ---- attention ---- */

static inline void attend(arith *k, NUM *out, NUM *score, const ds4_participants *v,
                          const NUM *q, NUM sink) {
    uint32_t d = v->a->d_head;
    NUM m = sink, scale = attention_scale(v->a), den = (NUM)0;

    for (uint32_t j = 0; j < v->n; j++) {
        score[j] = mul(k, dot(k, q, ds4_participant(v, j, sizeof(NUM)), d), scale);
        m = score[j] > m ? score[j] : m;
    }
    for (uint32_t j = 0; j < v->n; j++) score[j] = exp_(k, sub(k, score[j], m));
    perm all = perm_of(k, v->n + 1), rows = perm_of(k, v->n);
    for (uint32_t j = 0; j <= v->n; j++) { /* term 0 is the sink, j + 1 row j */
        uint32_t i = perm_at(&all, j);
        den = add(k, den, i ? score[i - 1] : exp_(k, sub(k, sink, m)));
    }
    for (uint32_t i = 0; i < d; i++) out[i] = (NUM)0;
    for (uint32_t j = 0; j < v->n; j++) {
        uint32_t r = perm_at(&rows, j);
        const NUM *row = ds4_participant(v, r, sizeof(NUM));
        for (uint32_t i = 0; i < d; i++) out[i] = add(k, out[i], mul(k, score[r], row[i]));
    }
    NUM inv = quo(k, (NUM)1, den);
    for (uint32_t i = 0; i < d; i++) out[i] = keep(mul(k, out[i], inv));
}

FORMULA(attention) {
    const struct ds4_args_attention *a = c->args;
    const NUM *sink = c->bind[4];

    for (uint32_t t = box.y0; t < box.y1; t++) {
        ds4_participants v = ds4_participants_of(c, t);
        for (uint32_t h = box.x0; h < box.x1; h++) {
            size_t head = (size_t)t * a->n_head + h, off = head * a->d_head;
            arith k = begin(c, off);
            attend(&k, (NUM *)c->bind[6] + off, (NUM *)c->bind[5] + head * a->n_score, &v,
                   (const NUM *)c->bind[0] + off, sink[h]);
        }
    }
}

/* ---- router and experts ---- */

FORMULA(router_prob) {
    const NUM *x = c->bind[0];
    NUM *y = c->bind[1];
    for (uint32_t i = box.x0; i < box.x1; i++) {
        arith k = begin(c, i);
        y[i] = keep(sqrt_softplus_(&k, x[i]));
    }
}

FORMULA(router_topk) {
    const struct ds4_args_router_topk *a = c->args;
    const NUM *bias = c->bind[1];

    for (uint32_t t = box.x0; t < box.x1; t++) {
        const NUM *p = (const NUM *)c->bind[0] + (size_t)t * a->n_expert;
        int32_t *sel = (int32_t *)c->bind[2] + (size_t)t * a->k;
        uint64_t last_key = UINT64_MAX;
        uint32_t last = 0; /* the expert picked before */
        arith k = begin(c, (size_t)t * a->k);
        for (uint32_t s = 0; s < a->k; s++) {
            uint32_t best = UINT32_MAX;
            uint64_t best_key = 0;
            for (uint32_t e = 0; e < a->n_expert; e++) {
                NUM v = a->has_bias ? add(&k, p[e], bias[e]) : p[e];
                uint64_t key = ds4_f64_select_key((double)v);
                bool picked = s && (key > last_key || (key == last_key && e <= last));
                if (!picked && (best == UINT32_MAX || key > best_key)) best = e, best_key = key;
            }
            sel[s] = (int32_t)best, last = best, last_key = best_key;
        }
    }
}

FORMULA(router_hash) { ds4_ref_router_hash(c, box); } /* integers alone */

FORMULA(router_weight) {
    const struct ds4_args_router_weight *a = c->args;

    for (uint32_t t = box.x0; t < box.x1; t++) {
        const NUM *p = (const NUM *)c->bind[0] + (size_t)t * a->n_expert;
        const int32_t *sel = (const int32_t *)c->bind[1] + (size_t)t * a->k;
        NUM *w = (NUM *)c->bind[2] + (size_t)t * a->k, z = (NUM)0;
        arith s = begin(c, (size_t)t * a->k), *k = &s;
        perm order = perm_of(k, a->k);
        for (uint32_t i = 0; i < a->k; i++) z = add(k, z, p[sel[perm_at(&order, i)]]);
        if (!(z > (NUM)0x1p-14)) z = (NUM)0x1p-14;
        for (uint32_t i = 0; i < a->k; i++)
            w[i] = keep(mul(k, quo(k, p[sel[i]], z), (NUM)a->scale));
    }
}

FORMULA(swiglu) {
    const struct ds4_args_swiglu *a = c->args;
    const NUM *w = c->bind[2];
    NUM most = (NUM)a->clamp;

    for (uint32_t r = box.y0; r < box.y1; r++)
        for (uint32_t i = box.x0; i < box.x1; i++) {
            size_t at = (size_t)r * a->n_col + i;
            NUM g = ((const NUM *)c->bind[0])[at], u = ((const NUM *)c->bind[1])[at];
            arith k = begin(c, at);
            if (a->clamp > 1e-6f) {
                g = g > most ? most : g;
                u = u > most ? most : u < -most ? -most : u;
            }
            NUM y = keep(mul(&k, g, sigmoid_(&k, g)));
            y = keep(mul(&k, y, u));
            ((NUM *)c->bind[3])[at] = a->has_w ? keep(mul(&k, y, w[r])) : y;
        }
}

FORMULA(slot_sum) {
    const struct ds4_args_slot_sum *a = c->args;

    for (uint32_t t = box.y0; t < box.y1; t++) {
        const NUM *x = (const NUM *)c->bind[0] + (size_t)t * a->n_slot * a->n_col;
        for (uint32_t i = box.x0; i < box.x1; i++) {
            size_t at = (size_t)t * a->n_col + i;
            arith k = begin(c, at);
            perm p = perm_of(&k, a->n_slot);
            NUM sum = (NUM)0;
            for (uint32_t s = 0; s < a->n_slot; s++)
                sum = add(&k, sum, x[(size_t)perm_at(&p, s) * a->n_col + i]);
            ((NUM *)c->bind[1])[at] = keep(sum);
        }
    }
}

FORMULA(add) {
    const NUM *p = c->bind[0], *q = c->bind[1];
    NUM *y = c->bind[2];
    for (uint32_t i = box.x0; i < box.x1; i++) {
        arith k = begin(c, i);
        y[i] = keep(add(&k, p[i], q[i]));
    }
}
