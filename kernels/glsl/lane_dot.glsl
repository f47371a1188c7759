/* Dot product of one weight row with x[at .. at + n), lanes of the group over half blocks: lane l
 * takes half blocks l, l + lx, ..; a half block's 16 products are added as four vec4 in a tree.
 * HALF rounds both operands to f16 first and accumulates in f32. Every invocation of the group
 * must call group_dot. Before including: quant.glsl, reduce.glsl (GROUP_REDUCE), float x[]. */
#ifdef HALF
vec4 stage(vec4 v) { return vec4(unpackHalf2x16(packHalf2x16(v.xy)), unpackHalf2x16(packHalf2x16(v.zw))); }
#else
vec4 stage(vec4 v) { return v; }
#endif

float group_dot(uint row, uint at, uint n) {
    PRECISE vec4 sum = vec4(0.0);
    for (uint k = gl_LocalInvocationID.x; 16u * k + 16u <= n; k += gl_WorkGroupSize.x) {
        vec4 v0, v1, v2, v3;
        uint p = at + 16u * k;
        w_load16(row, k, v0, v1, v2, v3);
        PRECISE vec4 s01 = stage(v0) * stage(LOAD4(x, p)) + stage(v1) * stage(LOAD4(x, p + 4u));
        PRECISE vec4 s23 = stage(v2) * stage(LOAD4(x, p + 8u)) + stage(v3) * stage(LOAD4(x, p + 12u));
        sum += s01 + s23;
    }
    for (uint i = (n & ~15u) + gl_LocalInvocationID.x; i < n; i += gl_WorkGroupSize.x)
        sum.x += stage(vec4(w_elem(row, i))).x * stage(vec4(x[at + i])).x;
    PRECISE float s = (sum.x + sum.y) + (sum.z + sum.w);
    return group_sum(s);
}
