/* Dot products of ROWS (2 or 4) weight rows with n_at (1 to 4) input slices x[at .. at + n), a
 * share of their half blocks: k = first, first + step, .. A decoded half block serves every slice,
 * a loaded input every row; rows may repeat.
 * Sums per row and slice: dot4 of each quarter of a half block, (0 + 1) + (2 + 3), half blocks in
 * increasing k; then the elements of an unblocked row past its half blocks, one by one.
 * HALF rounds both operands to f16 first and accumulates in f32.
 * Before including: quant.glsl, reduce.glsl and a buffer float x[]. MAX_AT: 1 or 4. */
#include "half_dot.glsl"

#if ROWS == 4
#define ROW_VEC vec4
#define BY_ROW(q) vec4(dot16(b0, q), dot16(b1, q), dot16(b2, q), dot16(b3, q))
#define ELEMS(i) stage(vec4(w_elem(row[0], i), w_elem(row[1], i), w_elem(row[2], i), w_elem(row[3], i)))
#else
#define ROW_VEC vec2
#define BY_ROW(q) vec2(dot16(b0, q), dot16(b1, q))
#define ELEMS(i) stage(vec4(w_elem(row[0], i), w_elem(row[1], i), 0.0, 0.0)).xy
#endif
#define SLICE_ADD(t)                                                                             \
    {                                                                                            \
        half_block q_ = inputs(at[t] + 16u * k);                                                 \
        s##t += BY_ROW(q_);                                                                      \
    }
#define TAIL_ADD(t)                                                                              \
    {                                                                                            \
        PRECISE ROW_VEC p_ = w * stage(vec4(x[at[t] + i])).x;                                    \
        s##t += p_;                                                                              \
    }
#if MAX_AT > 1
#define EACH_SLICE(ADD)                                                                          \
    ADD(0)                                                                                       \
    if (n_at > 1u) {                                                                             \
        ADD(1)                                                                                   \
        if (n_at > 2u) {                                                                         \
            ADD(2)                                                                               \
            if (n_at > 3u) ADD(3)                                                                \
        }                                                                                        \
    }
#else
#define EACH_SLICE(ADD) ADD(0)
#endif

struct tile {
    ROW_VEC s0, s1, s2, s3; /* one per slice */
};

tile tile_dot(uvec4 row, uvec4 at, uint n, uint n_at, uint first, uint step_) {
    PRECISE ROW_VEC s0 = ROW_VEC(0.0);
    PRECISE ROW_VEC s1 = s0;
    PRECISE ROW_VEC s2 = s0;
    PRECISE ROW_VEC s3 = s0;
    for (uint k = first; 16u * k + 16u <= n; k += step_) {
        half_block b0 = weights(row[0], k), b1 = weights(row[1], k);
#if ROWS == 4
        half_block b2 = weights(row[2], k), b3 = weights(row[3], k);
#endif
        EACH_SLICE(SLICE_ADD)
    }
    if (WTYPE == Q_F32 || WTYPE == Q_F16 || WTYPE == Q_BF16)
        for (uint i = (n & ~15u) + first; i < n; i += step_) {
            ROW_VEC w = ELEMS(i);
            EACH_SLICE(TAIL_ADD)
        }
    return tile(s0, s1, s2, s3);
}
