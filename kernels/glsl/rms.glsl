/* Root mean square of a row of a float buffer x[]. Before including: reduce.glsl with GROUP_REDUCE.
 * square_sum(base, n_col): every invocation of the group calls it. STRICT: lane j of 16 adds squares
 * c mod 16 = j in increasing c, then the tree 8, 4, 2, 1. TREE: lane j of lx adds squares by fours
 * (dot4), c / 4 mod lx = j, then group_sum. SUBGROUP: the same lanes, each subgroup's sum in the
 * device's own order, then the subgroups in order.
 * row_scale: 1 / sqrt(sum / n_col + eps), by DS4_NORM_RSQRT_DISABLE in two ways. */
float square_sum(uint base, uint n_col) {
    uint i = gl_LocalInvocationID.x;
#ifdef STRICT
    if (i < 16u) {
        float v = 0.0;
        for (uint c = i; c < n_col; c += 16u) v = f_add(v, f_mul(x[base + c], x[base + c]));
        group_part[i] = v;
    }
    barrier();
    vec4 v[4];
    for (uint k = 0u; k < 4u; k++) v[k] = LOAD4(group_part, 4u * k);
    return tree16(v[0], v[1], v[2], v[3]);
#else
    PRECISE float v = 0.0;
    for (uint c = 4u * i; c + 4u <= n_col; c += 4u * gl_WorkGroupSize.x) {
        vec4 p = LOAD4(x, base + c);
        v += dot4(p, p);
    }
    for (uint c = (n_col & ~3u) + i; c < n_col; c += gl_WorkGroupSize.x)
        v = MAD(x[base + c], x[base + c], v);
#ifdef SUBGROUP
    float s = subgroupAdd(v);
    if (subgroupElect()) group_part[gl_SubgroupID] = s;
    barrier();
    PRECISE float sum = 0.0;
    for (uint k = 0u; k < gl_NumSubgroups; k++) sum += group_part[k];
    return sum;
#else
    return group_sum(v);
#endif
#endif
}

float row_scale(float ss, uint n_col, float eps) {
    bool exact_root = (VARIANTS & V_NORM_RSQRT_DISABLE) != 0u;
#ifdef STRICT
    float v = f_add(f_div(ss, float(n_col)), eps);
    return exact_root ? f_div(1.0, f_sqrt(v)) : f_rsqrt(v);
#else
    PRECISE float v = ss / float(n_col) + eps;
    return exact_root ? 1.0 / sqrt(v) : inversesqrt(v);
#endif
}
