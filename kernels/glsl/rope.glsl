/* Rotation of one pair by its position. Before including: exact.glsl and a buffer uint freq[], two
 * words (low, high) of a 64-bit turn per position for each pair.
 * Sums: a*c - b*s and a*s + b*c. STRICT: turn = pos * freq mod 2^64 in integers, then exact.glsl;
 * else the same turn, the device's cos and sin of its upper word in radians. */
vec2 rope_cos_sin(uint k, uint pos) {
    uint hi, lo;
    umulExtended(freq[2u * k], pos, hi, lo);
    hi += freq[2u * k + 1u] * pos;
#ifdef STRICT
    return f_cos_sin_turn(uvec2(hi, lo));
#else
    PRECISE float angle = float(int(hi)) * 1.46291808e-09;
    return vec2(cos(angle), sin(angle));
#endif
}

vec2 rope_turned(vec2 v, vec2 cs, bool inverse) {
    PRECISE float minus = 0.0 - cs.y;
    float sn = inverse ? minus : cs.y;
    PRECISE float qs = -(v.y * sn);
    PRECISE float qc = v.y * cs.x;
    return vec2(fz(MAD(v.x, cs.x, qs)), fz(MAD(v.x, sn, qc)));
}
