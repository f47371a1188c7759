/* Half blocks of 16 elements: loads of both operands and their dot product: dot4 of each quarter,
 * then (0 + 1) + (2 + 3). HALF rounds both operands to f16 first.
 * WIDE: inputs and weights by 16 bytes; the slices then start at multiples of 4 elements.
 * Before including: quant.glsl, reduce.glsl and a buffer float x[]; with WIDE a buffer vec4 x4[] on
 * the same binding. */
#ifdef HALF
vec4 stage(vec4 v) { return vec4(unpackHalf2x16(packHalf2x16(v.xy)), unpackHalf2x16(packHalf2x16(v.zw))); }
#else
vec4 stage(vec4 v) { return v; }
#endif

struct half_block {
    vec4 v0, v1, v2, v3;
};

half_block weights(uint row, uint k) {
    half_block b;
    w_load16(row, k, b.v0, b.v1, b.v2, b.v3);
    return half_block(stage(b.v0), stage(b.v1), stage(b.v2), stage(b.v3));
}
half_block inputs(uint at) {
#ifdef WIDE
    uint i = at >> 2;
    return half_block(stage(x4[i]), stage(x4[i + 1u]), stage(x4[i + 2u]), stage(x4[i + 3u]));
#else
    return half_block(stage(LOAD4(x, at)), stage(LOAD4(x, at + 4u)), stage(LOAD4(x, at + 8u)),
                      stage(LOAD4(x, at + 12u)));
#endif
}
float dot16(half_block p, half_block q) {
    PRECISE float s01 = dot4(p.v0, q.v0) + dot4(p.v1, q.v1);
    PRECISE float s23 = dot4(p.v2, q.v2) + dot4(p.v3, q.v3);
    PRECISE float s = s01 + s23;
    return s;
}
