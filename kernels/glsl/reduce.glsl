/* Sums of stated order. Before including: types.glsl and exact.glsl.
 *
 * DOT16(out, A, ia, B, ib, n): sum_i A[ia + i] * B[ib + i] of two float buffers as ds4_dot16:
 * lane j of 16 adds the products with i mod 16 = j in increasing i, the lanes are added as the
 * tree 8, 4, 2, 1. A missing tail adds products +0, which change no bit: a lane that starts at
 * +0 never becomes -0. Strict in every build.
 *
 * group_sum(v): sum of one value per invocation of the group, as a tree over shared memory
 * (halves: n/2, n/4, .. 1); the group's size is a power of two, 256 at most. Every invocation of
 * the group must call it. group_max likewise. */
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

#ifdef GROUP_REDUCE
shared float group_part[256];

float group_sum(float v) {
    uint i = gl_LocalInvocationID.x;
    group_part[i] = v;
    barrier();
    for (uint n = gl_WorkGroupSize.x / 2u; n > 0u; n /= 2u) {
        if (i < n) {
            PRECISE float s = group_part[i] + group_part[i + n];
            group_part[i] = s;
        }
        barrier();
    }
    float sum = group_part[0];
    barrier();
    return sum;
}

float group_max(float v) {
    uint i = gl_LocalInvocationID.x;
    group_part[i] = v;
    barrier();
    for (uint n = gl_WorkGroupSize.x / 2u; n > 0u; n /= 2u) {
        if (i < n) group_part[i] = group_part[i + n] > group_part[i] ? group_part[i + n] : group_part[i];
        barrier();
    }
    float top = group_part[0];
    barrier();
    return top;
}
#endif

#endif
