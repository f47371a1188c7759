/* Clamped SwiGLU of one element: ((g * sigmoid(g)) * u) * w, each product flushed. STRICT: exact.glsl;
 * else g / (1 + exp(-g)) with the device's exp and division. Before including: exact.glsl. */
float gated(float g, float u, float clamp_at, bool has_w, float w) {
    if (clamp_at > 1.0e-6) {
        g = g > clamp_at ? clamp_at : g;
        u = u > clamp_at ? clamp_at : u < -clamp_at ? -clamp_at : u;
    }
#ifdef STRICT
    float v = fz(f_mul(g, f_sigmoid(g)));
#else
    PRECISE float s = g / (1.0 + exp(-g));
    float v = fz(s);
#endif
    v = fz(f_mul(v, u));
    if (has_w) v = fz(f_mul(v, w));
    return v;
}
