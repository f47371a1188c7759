#include "engine/model/rope_freq.h"

#include <math.h>

#include "engine/base/float.h"
#include "engine/base/fmath.h"

static const double two_pi = 0x1.921fb54442d18p2;

/* The pair index whose wavelength makes `beta` turns over the original context. */
static double ramp_edge(const ds4_config *cfg, double beta) {
    double turns = (double)cfg->yarn_n_ctx / (beta * two_pi);
    return (double)cfg->n_rot * ds4_log_f64(turns) / (2.0 * ds4_log_f64(cfg->rope_base_comp));
}

/* Share of extrapolation of pair k: 1 below the ramp, 0 above it. */
static double ramp(const ds4_config *cfg, uint32_t k) {
    double lo = fmax(0.0, floor(ramp_edge(cfg, cfg->yarn_beta_fast)));
    double hi = fmin((double)cfg->n_rot - 1.0, ceil(ramp_edge(cfg, cfg->yarn_beta_slow)));
    double x = ((double)k - lo) / fmax(0.001, hi - lo);
    return 1.0 - fmin(1.0, fmax(0.0, x));
}

void ds4_rope_freq(uint32_t *dst, const ds4_config *cfg, bool compressed, bool exp2_log2) {
    double base = compressed ? cfg->rope_base_comp : cfg->rope_base,
           log_base = ds4_log_f64(base);
    float slope = (float)(-2.0 / (double)cfg->n_rot * log_base / ds4_log_f64(2.0));

    for (uint32_t k = 0; k < cfg->n_rot / 2; k++) {
        double freq = exp2_log2 ? (double)ds4_exp2((float)k * slope)
                                : ds4_exp_f64(-2.0 * (double)k / (double)cfg->n_rot * log_base);
        double g = compressed ? ramp(cfg, k) : 1.0;
        freq = freq * (g + (1.0 - g) / cfg->yarn_factor);
        uint64_t turn = (uint64_t)(freq / two_pi * 0x1p64);
        dst[2 * k] = (uint32_t)turn, dst[2 * k + 1] = (uint32_t)(turn >> 32);
    }
}

void ds4_rope_constants(uint32_t *dst, const ds4_config *cfg, bool compressed) {
    const double value[DS4_ROPE_N_CONSTANT] = {
        [DS4_ROPE_BASE] = compressed ? cfg->rope_base_comp : cfg->rope_base,
        [DS4_ROPE_YARN] = compressed,
        [DS4_ROPE_FACTOR] = cfg->yarn_factor,
        [DS4_ROPE_N_CTX] = (double)cfg->yarn_n_ctx,
        [DS4_ROPE_BETA_FAST] = cfg->yarn_beta_fast,
        [DS4_ROPE_BETA_SLOW] = cfg->yarn_beta_slow,
    };
    for (int i = 0; i < DS4_ROPE_N_CONSTANT; i++) dst[i] = ds4_f32_bits((float)value[i]);
}
