/* Monotone key of an f32 for selections (ds4_select_key): greater value, greater key; NaN lowest;
 * -0 equals +0. */
uint select_key(float x) {
    uint u = floatBitsToUint(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return 0u;
    if (u == 0x80000000u) u = 0u;
    return (u >> 31) != 0u ? ~u : u | 0x80000000u;
}
