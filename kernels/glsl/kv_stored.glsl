/* An element of a cached attention row as it is stored (kv_round). top: the largest kv_magnitude of
 * its block of 64; fp8: the block is stored in FP8. Before including: exact.glsl. */
float kv_magnitude(float v) { return f_abs(v) > 0.0001 ? f_abs(v) : 0.0001; }

float kv_stored(float v, float top, bool fp8) {
    bool exact = (VARIANTS & V_STORE_EXACT) != 0u;
    if (fp8 && !exact) {
        uint u = floatBitsToUint(f_div(top, 448.0));
        int e = int(u >> 23) - 127 + ((u & 0x7fffffu) != 0u ? 1 : 0);
        float s = f_bits(uint(127 + e) << 23), inv = f_bits(uint(127 - e) << 23);
        v = f_mul(e4m3_round(f_mul(v, inv)), s);
    }
    return fz(exact || (VARIANTS & V_KV_RAW_F32) != 0u ? v : f16_round(v));
}
