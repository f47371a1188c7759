/* Sums of stated order. Before including: types.glsl and exact.glsl.
 *
 * DOT16(out, A, ia, B, ib, n): sum_i A[ia + i] * B[ib + i] of two float buffers as ds4_dot16:
 * lane j of 16 adds the products with i mod 16 = j in increasing i, the lanes are added as the
 * tree 8, 4, 2, 1. A missing tail adds products +0, which change no bit: a lane that starts at
 * +0 never becomes -0. Strict in every build.
 *
 * dot4(p, q): in plain builds the device's dot product, whose order and roundings the API leaves
 * open; in safe builds (0 + 1) + (2 + 3) with every rounding.
 *
 * group_sum(v): sum of one value per invocation of the group (GROUP_LANES at most, a multiple of
 * 8): eight sums of lanes i mod 8 in increasing i, then a tree. Two barriers, so that a caller may
 * loop over it. Every invocation of the group must call it. group_max likewise. */
#ifndef DS4_REDUCE_GLSL
#define DS4_REDUCE_GLSL

#define LOAD4(A, i) vec4(A[(i)], A[(i) + 1u], A[(i) + 2u], A[(i) + 3u])
/* Elements i .. i + 3 of a slice that ends before `end`; zeros past it. */
#define LOAD4_TAIL(A, i, end)                                                                    \
    vec4((i) < (end) ? A[(i)] : 0.0, (i) + 1u < (end) ? A[(i) + 1u] : 0.0,                       \
         (i) + 2u < (end) ? A[(i) + 2u] : 0.0, (i) + 3u < (end) ? A[(i) + 3u] : 0.0)

#define DOT16(out_, A, ia, B, ib, n)                                                             \
    {                                                                                            \
        vec4 l0_ = vec4(0.0), l1_ = vec4(0.0), l2_ = vec4(0.0), l3_ = vec4(0.0);                 \
        uint i_ = 0u;                                                                            \
        for (; i_ + 16u <= (n); i_ += 16u) {                                                     \
            uint p_ = (ia) + i_, q_ = (ib) + i_;                                                 \
            l0_ = mul_add4(l0_, LOAD4(A, p_), LOAD4(B, q_));                                     \
            l1_ = mul_add4(l1_, LOAD4(A, p_ + 4u), LOAD4(B, q_ + 4u));                           \
            l2_ = mul_add4(l2_, LOAD4(A, p_ + 8u), LOAD4(B, q_ + 8u));                           \
            l3_ = mul_add4(l3_, LOAD4(A, p_ + 12u), LOAD4(B, q_ + 12u));                         \
        }                                                                                        \
        if (i_ < (n)) {                                                                          \
            uint p_ = (ia) + i_, q_ = (ib) + i_, pe_ = (ia) + (n), qe_ = (ib) + (n);             \
            l0_ = mul_add4(l0_, LOAD4_TAIL(A, p_, pe_), LOAD4_TAIL(B, q_, qe_));                 \
            l1_ = mul_add4(l1_, LOAD4_TAIL(A, p_ + 4u, pe_), LOAD4_TAIL(B, q_ + 4u, qe_));       \
            l2_ = mul_add4(l2_, LOAD4_TAIL(A, p_ + 8u, pe_), LOAD4_TAIL(B, q_ + 8u, qe_));       \
            l3_ = mul_add4(l3_, LOAD4_TAIL(A, p_ + 12u, pe_), LOAD4_TAIL(B, q_ + 12u, qe_));     \
        }                                                                                        \
        out_ = tree16(l0_, l1_, l2_, l3_);                                                       \
    }

float dot4(vec4 p, vec4 q) {
#if defined(STRICT) || defined(SAFE)
    precise vec4 m = p * q;
    precise float s = (m.x + m.y) + (m.z + m.w);
    return s;
#else
    return dot(p, q);
#endif
}

#ifdef GROUP_REDUCE
const uint GROUP_LANES = 256u;
shared float group_part[GROUP_LANES], group_eight[8];

float group_sum(float v) {
    uint i = gl_LocalInvocationID.x;
    group_part[i] = v;
    barrier();
    if (i < 8u) {
        PRECISE float s = v;
        for (uint k = i + 8u; k < gl_WorkGroupSize.x; k += 8u) s += group_part[k];
        group_eight[i] = s;
    }
    barrier();
    PRECISE vec4 s = LOAD4(group_eight, 0u) + LOAD4(group_eight, 4u);
    PRECISE float sum = (s.x + s.z) + (s.y + s.w);
    return sum;
}

float group_max(float v) {
    uint i = gl_LocalInvocationID.x;
    group_part[i] = v;
    barrier();
    if (i < 8u) {
        float top = v;
        for (uint k = i + 8u; k < gl_WorkGroupSize.x; k += 8u)
            top = group_part[k] > top ? group_part[k] : top;
        group_eight[i] = top;
    }
    barrier();
    float top = group_eight[0];
    for (uint k = 1u; k < 8u; k++) top = group_eight[k] > top ? group_eight[k] : top;
    return top;
}
#endif

#endif
