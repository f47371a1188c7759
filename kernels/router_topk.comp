#version 450
#extension GL_GOOGLE_include_directive : require
/* The k experts with the largest biased scores, best first, lower expert on ties.
 * Group: lx tokens; one invocation per token, k passes over the experts.
 * Bindings: 0 p [n_tok][n_expert], 1 bias [n_expert] (unused without has_bias); 2 sel i32
 * [n_tok][k]. Args: ds4_args_router_topk. Sums: p + bias. */
#include "types.glsl"
#include "exact.glsl"
#include "select.glsl"
layout(std430, set = 0, binding = 0) readonly buffer P_ { float p[]; };
layout(std430, set = 0, binding = 1) readonly buffer Bias_ { float bias[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Sel_ { uint sel[]; };
ARGS(ds4_args_router_topk)

void main() {
    uint t = UNIT_X;
    if (t >= a.n_tok) return;
    uint last = 0u, last_key = 0xffffffffu;
    for (uint s = 0u; s < a.k; s++) {
        uint best = 0xffffffffu, best_key = 0u;
        for (uint e = 0u; e < a.n_expert; e++) {
            float v = p[t * a.n_expert + e];
            if (a.has_bias != 0u) v = f_add(v, bias[e]);
            uint key = select_key(v);
            bool picked = s != 0u && (key > last_key || (key == last_key && e <= last));
            if (!picked && (best == 0xffffffffu || key > best_key)) {
                best = e;
                best_key = key;
            }
        }
        sel[t * a.k + s] = best;
        last = best;
        last_key = best_key;
    }
}
