/* Per-channel softmax pooling of the projections of a compression window.
 * Bindings: 0 kv ring [cap][n_lane * d_head], 1 gate ring as kv; 2 y [n_row][d_head].
 * Unit: x = channel i, y = emitted row. Row k = row0 + y covers tokens ratio*k ..
 * ratio*k+ratio-1; token p lives in slot p mod cap. n_lane 2: for t = 0..ratio-1 first the
 * previous window's token t (column i; weight 0 and value 0 for k = 0), then the current one's
 * (column d_head + i): den += (w_prev + w_cur); num += w_prev * kv_prev; num += w_cur * kv_cur.
 * n_lane 1: den += w; num += w * kv. Weights exp(gate - max gate). Result num / den. */
#include "engine/ops/ops.h"

#include "engine/base/float.h"
#include "engine/base/fmath.h"

void ds4_grid_softmax_pool(const void *args, uint32_t grid[3]) {
    const struct ds4_args_softmax_pool *a = args;
    grid[0] = a->d_head, grid[1] = a->n_row, grid[2] = 1;
}

typedef struct lane {
    float gate, kv;
} lane;

/* Token `pos` (negative: before the text) in column `col`. */
static lane load(const ds4_ref_call *c, const struct ds4_args_softmax_pool *a, int64_t pos,
                 uint32_t col) {
    if (pos < 0) return (lane){DS4_NEG, 0.0f};
    size_t i = (size_t)((uint32_t)pos % a->cap) * a->n_lane * a->d_head + col;
    return (lane){((const float *)c->bind[1])[i], ((const float *)c->bind[0])[i]};
}

static float pool(const ds4_ref_call *c, const struct ds4_args_softmax_pool *a, uint32_t k,
                  uint32_t i) {
    int64_t first = (int64_t)k * a->ratio, previous = first - a->ratio;
    uint32_t cur = a->n_lane == 2 ? a->d_head + i : i;
    float m = DS4_NEG, den = 0.0f, num = 0.0f;

    for (uint32_t t = 0; t < a->ratio; t++) {
        float g = load(c, a, first + t, cur).gate;
        m = g > m ? g : m;
        if (a->n_lane == 2) g = load(c, a, previous + t, i).gate, m = g > m ? g : m;
    }
    for (uint32_t t = 0; t < a->ratio; t++) {
        lane v = load(c, a, first + t, cur);
        float w = ds4_exp(v.gate - m);
        if (a->n_lane == 2) {
            lane p = load(c, a, previous + t, i);
            float wp = previous + t < 0 ? 0.0f : ds4_exp(p.gate - m);
            den = den + (wp + w);
            num = num + wp * p.kv;
        } else {
            den = den + w;
        }
        num = num + w * v.kv;
    }
    return ds4_fz(num / den);
}

void ds4_ref_softmax_pool(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_softmax_pool *a = c->args;
    float *y = c->bind[2];

    for (uint32_t r = box.y0; r < box.y1; r++)
        for (uint32_t i = box.x0; i < box.x1; i++)
            y[(size_t)r * a->d_head + i] = pool(c, a, a->row0 + r, i);
}
