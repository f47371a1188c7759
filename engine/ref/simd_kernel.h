/* The template of a SIMD path (simd.h), included once by each simd_<path>.c, which defines
 *   W                 floats of a vector, 4, 8 or 16
 *   V                 the vector type, with the operators + - *
 *   VI                the vector of W int32
 *   v_set1(x), v_ld(p), v_st(p, v)      aligned loads and stores
 *   v_i8(p), v_u8(p)  W bytes at p, widened with and without a sign
 *   v_and(v, mask), v_shr(v, n)         on every int32
 *   v_float(v)        int32 to float, exact here: no code has more than 8 bits
 *   v_f16(p)          W halves at p as floats, exact; f_half(p) one
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

#define ALWAYS static inline __attribute__((always_inline))

enum {
    CHUNK = 512, /* elements of a row that are decoded at a time: a multiple of every block */
    N_PLANE = 16 / W,
    MAX_ONE = 3,          /* most inputs that meet a weight as it is decoded */
    MAX_TILE = 6,         /* most inputs of a register tile */
    ROWS = 8,             /* of a panel: a multiple of the rows of every tile */
    TOKS = 48,            /* inputs of a block: what one decoded panel serves */
    STRIDE = CHUNK + 16,  /* between rows of a panel: off the period of the cache sets */
    ACC = TOKS * 16 + 16, /* between the sums of two rows */
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

/* ---- formats ---- */

/* Where the decoded weights of a chunk go: into a panel, or straight into the sums of its
 * products with n_t inputs. */
typedef struct sink {
    float *dst;              /* NULL: products */
    const float *x[MAX_ONE]; /* packed inputs, at this chunk */
    V sum[MAX_ONE][N_PLANE];
    uint32_t n_step;
} sink;

/* Takes vector v (a constant) of the weights from element e, a multiple of 16. n_t is a
 * constant: 0 for a panel. */
ALWAYS void put(sink *s, const int n_t, uint32_t e, const uint32_t v, V w) {
    size_t at = ((size_t)(v % N_PLANE) * s->n_step + e / 16 + v / N_PLANE) * W;
    if (!n_t) v_st(s->dst + at, w);
    UNROLL for (int t = 0; t < n_t; t++) {
        V product = w * v_ld(s->x[t] + at);
        s->sum[t][v % N_PLANE] = s->sum[t][v % N_PLANE] + product;
    }
}

ALWAYS void block_f16(sink *s, const int n_t, const uint8_t *p, uint32_t e) {
    UNROLL for (uint32_t v = 0; v < N_PLANE; v++) put(s, n_t, e, v, v_f16(p + 2 * W * v));
}

ALWAYS void block_q8_0(sink *s, const int n_t, const uint8_t *p, uint32_t e) {
    V scale = v_set1(f_half(p));
    UNROLL for (uint32_t v = 0; v < 32 / W; v++)
        put(s, n_t, e, v, scale * v_float(v_i8(p + 2 + W * v)));
}

ALWAYS void block_q2_k(sink *s, const int n_t, const uint8_t *p, uint32_t e) {
    V scale = v_set1(f_half(p + 80));
    V low = v_set1(f_half(p + 82));
    _Alignas(ALIGN) float a[16], m[16]; /* of each sub-block */
    UNROLL for (uint32_t k = 0; k < 16; k += W) {
        VI sc = v_u8(p + k);
        v_st(a + k, scale * v_float(v_and(sc, 15)));
        v_st(m + k, low * v_float(v_shr(sc, 4)));
    }
    for (uint32_t h = 0; h < 2; h++)
        for (uint32_t q = 0; q < 4; q++) UNROLL for (uint32_t v = 0; v < 32 / W; v++) {
                VI code = v_and(v_shr(v_u8(p + 16 + 32 * h + W * v), 2 * q), 3);
                uint32_t j = 8 * h + 2 * q + v * W / 16;
                V t = v_set1(a[j]) * v_float(code);
                put(s, n_t, e + 128 * h + 32 * q, v, t - v_set1(m[j]));
            }
}

/* The eight 6-bit scales and eight minima of a Q4_K block as bytes (engine/format/q4_k.c). */
ALWAYS void q4_k_scales(uint8_t sc[16], const uint8_t *p) {
    const uint32_t six = 0x3f3f3f3fu, four = 0x0f0f0f0fu, two = 0x03030303u;
    uint32_t a = ds4_le32(p), b = ds4_le32(p + 4), c = ds4_le32(p + 8);
    uint32_t w[4] = {a & six, (c & four) | (a >> 6 & two) << 4, b & six,
                     (c >> 4 & four) | (b >> 6 & two) << 4};
    memcpy(sc, w, 16); /* every machine with one of these paths is little-endian */
}

ALWAYS void block_q4_k(sink *s, const int n_t, const uint8_t *p, uint32_t e) {
    float scale = f_half(p), low = f_half(p + 2);
    _Alignas(ALIGN) float f[16]; /* eight scales, eight minima */
    uint8_t sc[16];

    q4_k_scales(sc, p + 4);
    UNROLL for (uint32_t k = 0; k < 16; k += W) v_st(f + k, v_float(v_u8(sc + k)));
    for (uint32_t j = 0; j < 4; j++) {
        V a0 = v_set1(scale * f[2 * j]), a1 = v_set1(scale * f[2 * j + 1]);
        V m0 = v_set1(low * f[8 + 2 * j]), m1 = v_set1(low * f[9 + 2 * j]);
        UNROLL for (uint32_t v = 0; v < 32 / W; v++) {
            V t = a0 * v_float(v_and(v_u8(p + 16 + 32 * j + W * v), 15));
            put(s, n_t, e + 64 * j, v, t - m0);
        }
        UNROLL for (uint32_t v = 0; v < 32 / W; v++) {
            V t = a1 * v_float(v_shr(v_u8(p + 16 + 32 * j + W * v), 4));
            put(s, n_t, e + 64 * j + 32, v, t - m1);
        }
    }
}

/* Eight magnitudes with their signs as bytes: g or -g in two's complement. Magnitudes are 8, 25
 * or 43, so no byte of the sum carries into the next. */
static inline uint64_t signed_octet(uint64_t g, uint64_t minus) {
    return (g ^ minus) + (minus & 0x0101010101010101u);
}

ALWAYS void block_iq2_xxs(sink *s, const int n_t, const uint8_t *p, uint32_t e) {
    float scale = f_half(p);
    for (uint32_t g = 0; g < 8; g++) {
        const uint8_t *index = p + 2 + 8 * g;
        uint32_t signs = ds4_le32(index + 4);
        V w = v_set1(scale * (float)(2 * (signs >> 28) + 1) * 0.125f);
        uint64_t octet[4];
        UNROLL for (uint32_t k = 0; k < 4; k++) octet[k] =
            signed_octet(ds4_iq2xxs_grid[index[k]], ds4_simd_minus[signs >> 7 * k & 127u]);
        UNROLL for (uint32_t v = 0; v < 32 / W; v++)
            put(s, n_t, e + 32 * g, v, w * v_float(v_i8((const uint8_t *)octet + W * v)));
    }
}

/* For a format: n elements of a row (a multiple of n_elem) into a panel, and one or more rows
 * added to acc [n_r][n_t][16] against inputs at the same chunk. Two rows at a time keep enough
 * sums under way to hide the time of an addition. */
#define FORMAT(name, n_elem, n_bytes)                                                          \
    static void unpack_##name(float *dst, const uint8_t *p, uint32_t n) {                      \
        sink s = {.dst = dst, .n_step = steps_of(n)};                                          \
        for (uint32_t e = 0; e < n; e += n_elem, p += n_bytes) block_##name(&s, 0, p, e);      \
    }                                                                                          \
    ALWAYS void dot_##name(float *acc, const uint8_t *p, size_t row_bytes,                     \
                           const float *const *x, size_t at, uint32_t n, const int n_r,        \
                           const int n_t) {                                                    \
        sink s[2];                                                                             \
        UNROLL for (int r = 0; r < n_r; r++) {                                                 \
            s[r].n_step = steps_of(n);                                                         \
            UNROLL for (int t = 0; t < n_t; t++) s[r].x[t] = x[t] + at;                        \
            UNROLL for (int i = 0; i < n_t * N_PLANE; i++) s[r]                                \
                .sum[i / N_PLANE][i % N_PLANE] = v_ld(acc + (r * n_t * N_PLANE + i) * W);      \
        }                                                                                      \
        for (uint32_t e = 0; e < n; e += n_elem, p += n_bytes)                                 \
            UNROLL for (int r = 0; r < n_r; r++)                                               \
                block_##name(&s[r], n_t, p + (size_t)r * row_bytes, e);                        \
        UNROLL for (int r = 0; r < n_r; r++) UNROLL for (int i = 0; i < n_t * N_PLANE; i++)    \
            v_st(acc + (r * n_t * N_PLANE + i) * W, s[r].sum[i / N_PLANE][i % N_PLANE]);       \
    }                                                                                          \
    static void one_##name(float *acc, const uint8_t *p, size_t row_bytes,                     \
                           const float *const *x, size_t at, uint32_t n, uint32_t n_r,         \
                           uint32_t n_t) {                                                     \
        if (n_r == 2 && n_t == 1) dot_##name(acc, p, row_bytes, x, at, n, 2, 1);               \
        else if (n_t == 1) dot_##name(acc, p, row_bytes, x, at, n, 1, 1);                      \
        else if (n_t == 2) dot_##name(acc, p, row_bytes, x, at, n, 1, 2);                      \
        else dot_##name(acc, p, row_bytes, x, at, n, 1, 3);                                    \
    }
FORMAT(f16, 16, 32)
FORMAT(q8_0, 32, 34)
FORMAT(q2_k, 256, 84)
FORMAT(q4_k, 256, 144)
FORMAT(iq2_xxs, 256, 66)

typedef struct format {
    uint32_t wtype,
        n_elem; /* n_elem: of which a row is a multiple, else it is decoded plainly */
    void (*unpack)(float *dst, const uint8_t *p, uint32_t n);
    void (*one)(float *acc, const uint8_t *p, size_t row_bytes, const float *const *x,
                size_t at, uint32_t n, uint32_t n_r, uint32_t n_t);
} format;

static const format formats[] = {
    {DS4_QUANT_F16, 16, unpack_f16, one_f16},
    {DS4_QUANT_Q8_0, 32, unpack_q8_0, one_q8_0},
    {DS4_QUANT_Q2_K, 256, unpack_q2_k, one_q2_k},
    {DS4_QUANT_Q4_K, 256, unpack_q4_k, one_q4_k},
    {DS4_QUANT_IQ2_XXS, 256, unpack_iq2_xxs, one_iq2_xxs},
};

/* The rows of a product: where element k of one lies, and how it is decoded. */
typedef struct source {
    const uint8_t *w;
    size_t row_bytes;
    const ds4_quant *quant;
    const format *format; /* NULL: the scalar decoder */
    bool half;
} source;

static source source_of(const uint8_t *w, size_t row_bytes, uint32_t wtype, bool half,
                        uint32_t n) {
    source s = {w, row_bytes, ds4_quant_by_id(wtype), NULL, half};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].wtype == wtype && n % formats[i].n_elem == 0) s.format = &formats[i];
    return s;
}

static inline const uint8_t *element(const source *s, uint32_t row, uint32_t k) {
    return s->w + (size_t)row * s->row_bytes +
           (size_t)(k / s->quant->n_elem) * s->quant->n_bytes;
}

/* Elements k .. k + n - 1 of a row into a panel; k is a multiple of CHUNK. Asks for the bytes
 * that this row needs next, which lie far from what is read meanwhile. */
static void unpack(float *dst, const source *s, uint32_t row, uint32_t k, uint32_t n) {
    const uint8_t *from = element(s, row, k), *next = element(s, row, k + n);

    for (const uint8_t *p = next; p < next + (next - from); p += 64) __builtin_prefetch(p);
    if (s->format) {
        s->format->unpack(dst, from, n);
    } else {
        float natural[CHUNK];
        ds4_row_decode(natural, from, s->quant->id, n, false);
        to_planes(dst, natural, n);
    }
    for (uint32_t e = 0; s->half && e < 16 * steps_of(n); e++) dst[e] = ds4_f16_round(dst[e]);
}

/* ---- products ---- */

static void store(float *const *y, uint32_t row, uint32_t n_tok, float *acc) {
    for (uint32_t t = 0; t < n_tok; t++) y[t][row] = ds4_fz(ds4_tree16(acc + 16 * (size_t)t));
}

/* Few inputs: every weight is used as it is decoded. */
static void few(float *const *y, const float *const *x, uint32_t n_tok, const source *s,
                uint32_t n_row, uint32_t n) {
    uint32_t step = n_tok == 1 ? 2 : 1;
    for (uint32_t r = 0, n_r; r < n_row; r += n_r) {
        _Alignas(ALIGN) float acc[16 * MAX_ONE] = {0};
        n_r = n_row - r < step ? n_row - r : step;
        for (uint32_t k = 0; k < n; k += CHUNK)
            s->format->one(acc, element(s, r, k), s->row_bytes, x, k,
                           n - k < CHUNK ? n - k : CHUNK, n_r, n_tok);
        for (uint32_t i = 0; i < n_r; i++) store(y, r + i, n_tok, acc + 16 * i);
    }
}

/* acc[r][t][16] += products of n_r rows and n_t inputs over one chunk. n_r and n_t are
 * constants. */
ALWAYS void tile(float *acc, const float *w, const float *const *x, size_t at, uint32_t n_step,
                 const int n_r, const int n_t) {
    for (uint32_t p = 0; p < N_PLANE; p++) {
        V sum[ROWS][MAX_TILE];
        UNROLL for (int r = 0; r < n_r; r++) UNROLL for (int t = 0; t < n_t; t++) sum[r][t] =
            v_ld(acc + (size_t)r * ACC + 16 * (size_t)t + p * W);
        for (uint32_t s = 0; s < n_step; s++) {
            size_t i = ((size_t)p * n_step + s) * W;
            V a[ROWS];
            UNROLL for (int r = 0; r < n_r; r++) a[r] = v_ld(w + (size_t)r * STRIDE + i);
            UNROLL for (int t = 0; t < n_t; t++) {
                V b = v_ld(x[t] + at + i);
                UNROLL for (int r = 0; r < n_r; r++) {
                    V product = a[r] * b;
                    sum[r][t] = sum[r][t] + product;
                }
            }
        }
        UNROLL for (int r = 0; r < n_r; r++) UNROLL for (int t = 0; t < n_t; t++)
            v_st(acc + (size_t)r * ACC + 16 * (size_t)t + p * W, sum[r][t]);
    }
}

/* A whole panel against n_t inputs: as many sums as the registers hold. */
#define TILES(n_r, n_t)                                                                        \
    static void tiles_##n_t(float *acc, const float *w, const float *const *x, size_t at,      \
                            uint32_t n_step) {                                                 \
        for (uint32_t r = 0; r < ROWS; r += n_r)                                               \
            tile(acc + (size_t)r * ACC, w + (size_t)r * STRIDE, x, at, n_step, n_r, n_t);      \
    }
TILES(8, 1)
TILES(4, 2)
TILES(4, 3)
TILES(2, 4)
TILES(2, 5)
TILES(2, 6)
static void (*const tiles[])(float *, const float *, const float *const *, size_t, uint32_t) = {
    NULL, tiles_1, tiles_2, tiles_3, tiles_4, tiles_5, tiles_6};

/* One panel of n_row <= ROWS rows against n_tok <= TOKS inputs; rows past the last are zeros.
 */
static void panel(float *const *y, const float *const *x, uint32_t n_tok, const source *s,
                  uint32_t row0, uint32_t n_row, uint32_t n) {
    _Alignas(ALIGN) float packed[ROWS * STRIDE], acc[ROWS * ACC];

    for (uint32_t r = 0; r < ROWS; r++) memset(acc + (size_t)r * ACC, 0, n_tok * 64);
    for (uint32_t r = n_row; r < ROWS; r++)
        memset(packed + (size_t)r * STRIDE, 0, CHUNK * sizeof *packed);
    for (uint32_t k = 0; k < n; k += CHUNK) {
        uint32_t m = n - k < CHUNK ? n - k : CHUNK;
        for (uint32_t r = 0; r < n_row; r++)
            unpack(packed + (size_t)r * STRIDE, s, row0 + r, k, m);
        for (uint32_t t = 0, n_t; t < n_tok; t += n_t) {
            n_t = n_tok - t < MAX_TILE ? n_tok - t : MAX_TILE;
            tiles[n_t](acc + 16 * (size_t)t, packed, x + t, k, steps_of(m));
        }
    }
    for (uint32_t r = 0; r < n_row; r++) store(y, row0 + r, n_tok, acc + (size_t)r * ACC);
}

static void rows(float *const *y, const float *const *x, uint32_t n_tok, const uint8_t *w,
                 size_t row_bytes, uint32_t wtype, bool half, uint32_t n_row, uint32_t n) {
    source s = source_of(w, row_bytes, wtype, half, n);
    if (n_tok <= MAX_ONE && s.format && !half) {
        few(y, x, n_tok, &s, n_row, n);
        return;
    }
    for (uint32_t r = 0; r < n_row; r += ROWS)
        for (uint32_t t = 0; t < n_tok; t += TOKS)
            panel(y + t, x + t, n_tok - t < TOKS ? n_tok - t : TOKS, &s, r,
                  n_row - r < ROWS ? n_row - r : ROWS, n);
}

const ds4_simd PATH = {PATH_NAME, path_runs, pack, rows};
