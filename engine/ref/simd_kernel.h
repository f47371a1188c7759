/* The template of a SIMD path (simd.h), included once by each simd_<path>.c, which defines
 *   W                 floats of a vector, 4, 8 or 16
 *   V                 the vector type, with the operators + - *
 *   v_set1(x), v_ld(p), v_st(p, v)      aligned loads and stores
 *   v_i8(p), v_u8(p)  W bytes at p as floats, exact
 *   v_f16(p)          W halves at p as floats, exact
 *   TILE_R, TILE_T    rows and inputs of the register tile; TILE_R1 rows against one input
 *   PATH(name)        the exported name
 *
 * Layout of packed data. Elements come in chunks of CHUNK; a chunk of n elements, padded to a
 * multiple of 16, is 16 / W planes: plane p holds lanes p * W .. p * W + W - 1 of every step of
 * 16, so that a tile walks one plane with full vectors.
 * Order: see simd.h. Sources of the formats: engine/format/<format>.c, whose exact values these
 * are. */
#include <string.h>

#include "engine/base/float.h"
#include "engine/format/quant.h"
#include "engine/ref/simd_paths.h"

/* Loops over a register tile must be unrolled whole, or its sums live in memory. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum {
    CHUNK = 512, /* elements of a row that are decoded at a time */
    N_PLANE = 16 / W,
    ROWS = 16, /* rows of a panel: a multiple of TILE_R and TILE_R1 */
    TOKS = 48, /* inputs of a block: what one decoded panel serves */
    ALIGN = 64
};

/* A panel element: where vector number v (W elements each) of a chunk of n_step steps lies. */
static inline size_t place(uint32_t v, uint32_t n_step) {
    return (size_t)(v % N_PLANE) * n_step * W + (size_t)(v / N_PLANE) * W;
}

static uint32_t steps_of(uint32_t n) { return (n + 15) / 16; }

/* Natural order to planes; the last step is filled with zeros. */
static void to_planes(float *dst, const float *x, uint32_t n) {
    uint32_t n_step = steps_of(n), full = n / W;
    for (uint32_t v = 0; v < full; v++)
        memcpy(dst + place(v, n_step), x + (size_t)v * W, W * sizeof *x);
    for (uint32_t v = full; v < n_step * N_PLANE; v++)
        for (uint32_t k = 0; k < W; k++) {
            uint32_t i = v * W + k;
            dst[place(v, n_step) + k] = i < n ? x[i] : 0.0f;
        }
}

static void pack(float *dst, const float *x, uint32_t n) {
    for (uint32_t k = 0; k < n; k += CHUNK)
        to_planes(dst + k, x + k, n - k < CHUNK ? n - k : CHUNK);
}

/* ---- formats: n elements of a row into planes ---- */

static void unpack_q8_0(float *dst, const uint8_t *p, uint32_t n) {
    uint32_t n_step = steps_of(n);
    for (uint32_t b = 0; b < n / 32; b++, p += 34) {
        V scale = v_set1(ds4_f16_to_f32(ds4_le16(p)));
        for (uint32_t k = 0; k < 32 / W; k++)
            v_st(dst + place(b * (32 / W) + k, n_step), scale * v_i8(p + 2 + k * W));
    }
}

static void unpack_f16(float *dst, const uint8_t *p, uint32_t n) {
    uint32_t n_step = steps_of(n), full = n / W;
    for (uint32_t v = 0; v < full; v++)
        v_st(dst + place(v, n_step), v_f16(p + (size_t)v * 2 * W));
    for (uint32_t v = full; v < n_step * N_PLANE; v++)
        for (uint32_t k = 0; k < W; k++) {
            uint32_t i = v * W + k;
            dst[place(v, n_step) + k] =
                i < n ? ds4_f16_to_f32(ds4_le16(p + 2 * (size_t)i)) : 0.0f;
        }
}

/* 32 bytes, shifted right and masked as 64-bit words: no bit of a neighbour survives `mask`. */
static inline void fields(uint8_t out[32], const uint8_t *p, unsigned shift, uint64_t mask) {
    uint64_t w[4];
    memcpy(w, p, 32);
    for (int i = 0; i < 4; i++) w[i] = w[i] >> shift & mask;
    memcpy(out, w, 32);
}

/* 16 codes from element e of the chunk: code * a - m. */
static inline void affine16(float *dst, uint32_t e, uint32_t n_step, const uint8_t *code,
                            float a, float m) {
    V va = v_set1(a), vm = v_set1(m);
    for (uint32_t k = 0; k < N_PLANE; k++)
        v_st(dst + place(e / W + k, n_step), va * v_u8(code + k * W) - vm);
}

static void unpack_q2_k(float *dst, const uint8_t *p, uint32_t n) {
    uint32_t n_step = steps_of(n);
    for (uint32_t b = 0; b < n / 256; b++, p += 84) {
        float scale = ds4_f16_to_f32(ds4_le16(p + 80)), low = ds4_f16_to_f32(ds4_le16(p + 82));
        for (uint32_t q = 0; q < 8; q++) { /* 32 elements: two sub-blocks */
            _Alignas(32) uint8_t code[32];
            fields(code, p + 16 + 32 * (q / 4), 2 * (q % 4), 0x0303030303030303u);
            for (uint32_t h = 0; h < 2; h++) {
                uint32_t sc = p[2 * q + h];
                affine16(dst, 256 * b + 32 * q + 16 * h, n_step, code + 16 * h,
                         scale * (float)(sc & 15u), low * (float)(sc >> 4));
            }
        }
    }
}

static void unpack_q4_k(float *dst, const uint8_t *p, uint32_t n) {
    uint32_t n_step = steps_of(n);
    for (uint32_t b = 0; b < n / 256; b++, p += 144) {
        float scale = ds4_f16_to_f32(ds4_le16(p)), low = ds4_f16_to_f32(ds4_le16(p + 2));
        const uint8_t *s = p + 4; /* eight 6-bit scales and minima (engine/format/q4_k.c) */
        for (uint32_t j = 0; j < 8; j++) {
            uint32_t sc =
                j < 4 ? s[j] & 63u : (s[j + 4] & 15u) | (uint32_t)(s[j - 4] >> 6) << 4;
            uint32_t mn =
                j < 4 ? s[j + 4] & 63u : (uint32_t)(s[j + 4] >> 4) | (uint32_t)(s[j] >> 6) << 4;
            _Alignas(32) uint8_t code[32];
            fields(code, p + 16 + 32 * (j / 2), 4 * (j % 2), 0x0f0f0f0f0f0f0f0fu);
            for (uint32_t h = 0; h < 2; h++)
                affine16(dst, 256 * b + 32 * j + 16 * h, n_step, code + 16 * h,
                         scale * (float)sc, low * (float)mn);
        }
    }
}

/* Eight magnitudes with their signs as bytes: g or -g in two's complement. Magnitudes are 8, 25
 * or 43, so no byte of the sum carries into the next. */
static inline uint64_t signed_octet(uint64_t g, uint64_t minus) {
    return (g ^ minus) + (minus & 0x0101010101010101u);
}

static void unpack_iq2_xxs(float *dst, const uint8_t *p, uint32_t n) {
    uint32_t n_step = steps_of(n);
    for (uint32_t b = 0; b < n / 256; b++, p += 66) {
        float scale = ds4_f16_to_f32(ds4_le16(p));
        for (uint32_t g = 0; g < 8; g++) {
            const uint8_t *index = p + 2 + 8 * g;
            uint32_t signs = ds4_le32(index + 4);
            V v = v_set1(scale * (float)(2 * (signs >> 28) + 1) * 0.125f);
            _Alignas(32) uint64_t octet[4];
            for (uint32_t k = 0; k < 4; k++)
                octet[k] = signed_octet(ds4_iq2xxs_grid[index[k]],
                                        ds4_simd_minus[signs >> 7 * k & 127u]);
            for (uint32_t k = 0; k < 32 / W; k++)
                v_st(dst + place(8 * b * (32 / W) + g * (32 / W) + k, n_step),
                     v * v_i8((const uint8_t *)octet + k * W));
        }
    }
}

/* F32, BF16 and what else has a decoder: natural order first. */
static void unpack_any(float *dst, const uint8_t *p, uint32_t wtype, uint32_t n) {
    float natural[CHUNK];
    ds4_row_decode(natural, p, wtype, n, false);
    to_planes(dst, natural, n);
}

/* Elements k .. k + n - 1 of a row; k is a multiple of CHUNK. */
static void unpack(float *dst, const uint8_t *row, uint32_t wtype, bool half, uint32_t k,
                   uint32_t n) {
    static const struct {
        uint32_t wtype;
        void (*run)(float *, const uint8_t *, uint32_t);
    } table[] = {
        {DS4_QUANT_F16, unpack_f16},         {DS4_QUANT_Q8_0, unpack_q8_0},
        {DS4_QUANT_Q2_K, unpack_q2_k},       {DS4_QUANT_Q4_K, unpack_q4_k},
        {DS4_QUANT_IQ2_XXS, unpack_iq2_xxs},
    };
    const ds4_quant *q = ds4_quant_by_id(wtype);
    const uint8_t *from = row + (size_t)(k / q->n_elem) * q->n_bytes;
    size_t i = 0;

    while (i < sizeof table / sizeof *table && table[i].wtype != wtype) i++;
    if (i < sizeof table / sizeof *table) table[i].run(dst, from, n);
    else unpack_any(dst, from, wtype, n);
    for (uint32_t e = 0; half && e < 16 * steps_of(n); e++) dst[e] = ds4_f16_round(dst[e]);
}

/* ---- products ---- */

/* acc[r][t][16] += products of n_r rows and n_t inputs over one chunk; rows of w lie CHUNK
 * apart, rows of acc TOKS * 16. n_r and n_t are constants where this is inlined. */
static inline __attribute__((always_inline)) void tile(float *acc, const float *w,
                                                       const float *const *x, size_t at,
                                                       uint32_t n_step, const int n_r,
                                                       const int n_t) {
    for (uint32_t p = 0; p < N_PLANE; p++) {
        V sum[TILE_R1 > TILE_R ? TILE_R1 : TILE_R][TILE_T];
        UNROLL for (int r = 0; r < n_r; r++) UNROLL for (int t = 0; t < n_t; t++) sum[r][t] =
            v_ld(acc + (size_t)r * TOKS * 16 + 16 * (size_t)t + p * W);
        for (uint32_t s = 0; s < n_step; s++) {
            size_t i = ((size_t)p * n_step + s) * W;
            V a[TILE_R1 > TILE_R ? TILE_R1 : TILE_R];
            UNROLL for (int r = 0; r < n_r; r++) a[r] = v_ld(w + (size_t)r * CHUNK + i);
            UNROLL for (int t = 0; t < n_t; t++) {
                V b = v_ld(x[t] + at + i);
                UNROLL for (int r = 0; r < n_r; r++) {
                    V product = a[r] * b;
                    sum[r][t] = sum[r][t] + product;
                }
            }
        }
        UNROLL for (int r = 0; r < n_r; r++) UNROLL for (int t = 0; t < n_t; t++)
            v_st(acc + (size_t)r * TOKS * 16 + 16 * (size_t)t + p * W, sum[r][t]);
    }
}

/* The panel against inputs t .. t + TILE_T - 1. */
static void tile_wide(float *acc, const float *w, const float *const *x, size_t at,
                      uint32_t n_step, uint32_t n_row) {
    for (uint32_t r = 0; r < n_row; r += TILE_R)
        tile(acc + (size_t)r * TOKS * 16, w + (size_t)r * CHUNK, x, at, n_step, TILE_R, TILE_T);
}

/* The panel against one input. */
static void tile_one(float *acc, const float *w, const float *const *x, size_t at,
                     uint32_t n_step, uint32_t n_row) {
    for (uint32_t r = 0; r < n_row; r += TILE_R1)
        tile(acc + (size_t)r * TOKS * 16, w + (size_t)r * CHUNK, x, at, n_step, TILE_R1, 1);
}

/* One panel of at most ROWS rows against at most TOKS inputs. A row past the last repeats it
 * and is not stored. */
static void panel(float *const *y, const float *const *x, uint32_t n_tok, const uint8_t *w,
                  size_t row_bytes, uint32_t wtype, bool half, uint32_t row0, uint32_t n_row,
                  uint32_t n) {
    _Alignas(ALIGN) float packed[ROWS * CHUNK], acc[ROWS * TOKS * 16];
    uint32_t step = n_tok >= TILE_T ? TILE_R : TILE_R1;
    uint32_t n_pad = (n_row + step - 1) / step * step;

    if (n_tok > TILE_T && n_tok % TILE_T) n_pad = (n_row + ROWS - 1) / ROWS * ROWS;
    for (uint32_t r = 0; r < n_pad; r++) memset(acc + (size_t)r * TOKS * 16, 0, n_tok * 64);
    for (uint32_t k = 0; k < n; k += CHUNK) {
        uint32_t m = n - k < CHUNK ? n - k : CHUNK, t = 0;
        for (uint32_t r = 0; r < n_row; r++)
            unpack(packed + (size_t)r * CHUNK, w + (size_t)(row0 + r) * row_bytes, wtype, half,
                   k, m);
        for (uint32_t r = n_row; r < n_pad; r++)
            memset(packed + (size_t)r * CHUNK, 0, CHUNK * sizeof *packed);
        for (; t + TILE_T <= n_tok; t += TILE_T)
            tile_wide(acc + 16 * (size_t)t, packed, x + t, k, steps_of(m), n_pad);
        for (; t < n_tok; t++)
            tile_one(acc + 16 * (size_t)t, packed, x + t, k, steps_of(m), n_pad);
    }
    for (uint32_t r = 0; r < n_row; r++)
        for (uint32_t t = 0; t < n_tok; t++)
            y[t][row0 + r] = ds4_fz(ds4_tree16(acc + (size_t)r * TOKS * 16 + 16 * (size_t)t));
}

static void rows(float *const *y, const float *const *x, uint32_t n_tok, const uint8_t *w,
                 size_t row_bytes, uint32_t wtype, bool half, uint32_t n_row, uint32_t n) {
    for (uint32_t r = 0; r < n_row; r += ROWS)
        for (uint32_t t = 0; t < n_tok; t += TOKS)
            panel(y + t, x + t, n_tok - t < TOKS ? n_tok - t : TOKS, w, row_bytes, wtype, half,
                  r, n_row - r < ROWS ? n_row - r : ROWS, n);
}

const ds4_simd PATH = {PATH_NAME, path_runs, pack, rows};
