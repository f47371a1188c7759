/* The rows that a token's heads attend to, and bindings 0 to 4 of the attention op: raw positions
 * max(0, p - window + 1) .. p, then the compressed rows: all (p + 1) / ratio of them, or those of
 * sel when n_sel is set and the token is not before sel_tok0. */
layout(std430, set = 0, binding = 0) readonly buffer Q_ { float q[]; };
layout(std430, set = 0, binding = 1) readonly buffer Raw_ { float raw[]; };
layout(std430, set = 0, binding = 2) readonly buffer Comp_ { float comp[]; };
layout(std430, set = 0, binding = 3) readonly buffer Sel_ { uint sel[]; };
layout(std430, set = 0, binding = 4) readonly buffer Sinks_ { float sinks[]; };
ARGS(ds4_args_attention)

struct participants {
    uint first, n_raw, n, sel_at;
    bool chosen;
};

participants participants_of(uint t) {
    participants p;
    uint pos = a.pos0 + t;
    p.first = pos + 1u > a.window ? pos + 1u - a.window : 0u;
    p.n_raw = pos + 1u - p.first;
    p.chosen = a.n_sel != 0u && t >= a.sel_tok0;
    p.sel_at = p.chosen ? (t - a.sel_tok0) * a.n_sel : 0u;
    p.n = p.n_raw + (p.chosen ? a.n_sel : a.ratio != 0u ? (pos + 1u) / a.ratio : 0u);
    return p;
}

/* Where participant j starts: in raw when j < n_raw, else in comp. */
uint row_of(participants p, uint j) {
    if (j < p.n_raw) return ((p.first + j) % a.raw_cap) * a.d_head;
    uint k = j - p.n_raw;
    return (p.chosen ? sel[p.sel_at + k] : k) * a.d_head;
}
