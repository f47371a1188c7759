/* Dot products of ROWS (4) weight rows with up to MAX_AT input slices, by every lane of a group of
 * one dimension: lane l takes half blocks l, l + lx, .. (half_dot.glsl) of all rows and slices, its
 * sums start at +0 and grow in increasing k; then the elements past the last half block, one by one.
 * mv_sum adds the lanes: each subgroup's in the device's own order, then the subgroups in order.
 * Rows may repeat. Slices that do not start at multiples of 8 elements go element by element.
 * Any subgroup size from 4 on: lx is 64 at most. Before including: the extension
 * GL_KHR_shader_subgroup_arithmetic, what half_dot.glsl wants, MAX_AT. */
#define ROWS 4
#define WIDE
#include "half_dot.glsl"

vec4 mv_acc[MAX_AT]; /* of this lane; a component per row */
shared vec4 mv_part[16 * MAX_AT];

#define MV_ROW(q) vec4(dot16(b0, q), dot16(b1, q), dot16(b2, q), dot16(b3, q))

/* DO for slices 0 .. n_at - 1. Written out: glslc -O drops `precise` where it unrolls a loop. */
#if MAX_AT == 1
#define MV_EACH(DO) DO(0u)
#else
#define MV_EACH(DO)                                                                              \
    DO(0u)                                                                                       \
    if (n_at > 1u) { DO(1u) }                                                                    \
    if (n_at > 2u) { DO(2u) }                                                                    \
    if (n_at > 3u) { DO(3u) }                                                                    \
    if (n_at > 4u) { DO(4u) }                                                                    \
    if (n_at > 5u) { DO(5u) }                                                                    \
    if (n_at > 6u) { DO(6u) }                                                                    \
    if (n_at > 7u) { DO(7u) }
#endif
#define MV_ZERO(t) mv_acc[t] = vec4(0.0);
#define MV_ADD(t)                                                                                \
    {                                                                                            \
        half_block q_ = inputs(at + t * stride + 16u * k);                                       \
        PRECISE vec4 s_ = mv_acc[t] + MV_ROW(q_);                                                \
        mv_acc[t] = s_;                                                                          \
    }
#define MV_ADD_ONE(t)                                                                            \
    {                                                                                            \
        PRECISE vec4 p_ = w * stage(vec4(x[at + t * stride + i])).x;                             \
        PRECISE vec4 s_ = mv_acc[t] + p_;                                                        \
        mv_acc[t] = s_;                                                                          \
    }
#define MV_PUT(t)                                                                                \
    {                                                                                            \
        vec4 s_ = subgroupAdd(mv_acc[t]);                                                        \
        if (subgroupElect()) mv_part[gl_SubgroupID * MAX_AT + t] = s_;                           \
    }

/* at: the first slice; stride: elements from one to the next. */
void mv_share(uvec4 row, uint at, uint stride, uint n, uint n_at) {
    uint lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    uint n_half = ((at | stride | n) & 7u) == 0u ? n >> 4 : 0u;
    MV_EACH(MV_ZERO)
    for (uint k = lane; k < n_half; k += lanes) {
        half_block b0 = weights(row[0], k), b1 = weights(row[1], k);
        half_block b2 = weights(row[2], k), b3 = weights(row[3], k);
        MV_EACH(MV_ADD)
    }
    for (uint i = 16u * n_half + lane; i < n; i += lanes) {
        vec4 w = stage(vec4(w_elem(row[0], i), w_elem(row[1], i), w_elem(row[2], i), w_elem(row[3], i)));
        MV_EACH(MV_ADD_ONE)
    }
}

/* Every lane calls it; lane t gets the sums of slice t, for t < n_at. Another mv_sum may follow. */
vec4 mv_sum(uint n_at) {
    barrier();
    MV_EACH(MV_PUT)
    barrier();
    uint t = min(gl_LocalInvocationID.x, n_at - 1u);
    PRECISE vec4 sum = mv_part[t];
    for (uint g = 1u; g < gl_NumSubgroups; g++) sum += mv_part[g * MAX_AT + t];
    return sum;
}
