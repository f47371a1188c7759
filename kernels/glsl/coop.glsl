/* One tile of a projection by cooperative matrices: TILE_ROWS weight rows times TILE_COLS inputs.
 * The device's shape CM x CN x CK arrives as constants and divides the tile; subgroup s owns the
 * shape-sized parts s, s + N_SUB, .. of it.
 *
 * staged form: both operands rounded to f16 through shared memory; sums of type SUM.
 * DIRECT form: the activations keep their own precision: x = h + l / 2048, h the f16 of x and l the
 * f16 of the rest times 2048, each with sums of its own, joined at the end as h + l / 2048. What
 * is left out is below 2^-22 of x, so that the weights alone are rounded to f16.
 * An input beyond the range of f16 becomes infinite in both.
 * F16_SUM: the sums are kept in f16 from one multiply-add to the next.
 *
 * Sums: steps of CK in increasing order, each one multiply-add of the device; its order and widths
 * are what engine/vk/vk_probe.h finds. Past the row's end both operands are zero.
 *
 * Before including: quant.glsl, a buffer float x[], and coop_put(row, col, value) for an element
 * of the tile. The includer fills coop_w (byte offset of each weight row) and coop_x (element
 * offset of each input), COOP_NONE where there is none, and stands a barrier before coop_tile;
 * every invocation of the group must call it. The manifest gives LANES invocations. */
#ifdef F16_SUM
#define SUM float16_t
#else
#define SUM float
#endif

layout(constant_id = 7) const uint CM = 16;
layout(constant_id = 8) const uint CN = 16;
layout(constant_id = 9) const uint CK = 16;
layout(constant_id = 10) const uint SUBGROUP = 32;

const uint LANES = 128u, TILE_ROWS = 64u, TILE_COLS = 32u, TILE_DEPTH = 32u, COOP_NONE = 0xffffffffu;
const uint PITCH = TILE_DEPTH + 8u; /* of a row in shared memory: neighbours in other banks */
const uint N_SUB = LANES / SUBGROUP, N_PART = (TILE_ROWS / CM) * (TILE_COLS / CN);
const uint PER_SUB = (N_PART + N_SUB - 1u) / N_SUB;

#define MATRIX_A coopmat<float16_t, gl_ScopeSubgroup, CM, CK, gl_MatrixUseA>
#define MATRIX_B coopmat<float16_t, gl_ScopeSubgroup, CK, CN, gl_MatrixUseB>
#define MATRIX_C coopmat<SUM, gl_ScopeSubgroup, CM, CN, gl_MatrixUseAccumulator>
#define MATRIX_F32 coopmat<float, gl_ScopeSubgroup, CM, CN, gl_MatrixUseAccumulator>

shared uint coop_w[TILE_ROWS], coop_x[TILE_COLS];
shared float16_t w_tile[TILE_ROWS * PITCH], x_tile[TILE_COLS * PITCH];
#ifdef DIRECT
shared float16_t x_rest[TILE_COLS * PITCH];
#endif
shared float out_tile[N_SUB * CM * CN];

float16_t to_f16(float v) {
#ifdef SAFE
    return float16_t(f16_round(v));
#else
    return float16_t(v);
#endif
}

/* A half block of a weight row: LANES are TILE_ROWS rows of 2. */
void stage_w(uint k0, uint n) {
    uint lane = gl_LocalInvocationIndex, j = lane >> 1, row = coop_w[j];
    uint i = k0 + 16u * (lane & 1u), to = j * PITCH + 16u * (lane & 1u);
    vec4 v[4] = vec4[4](vec4(0.0), vec4(0.0), vec4(0.0), vec4(0.0));
    if (row != COOP_NONE && i + 16u <= n) {
        w_load16(row, i >> 4, v[0], v[1], v[2], v[3]);
    } else if (row != COOP_NONE && (WTYPE == Q_F32 || WTYPE == Q_F16 || WTYPE == Q_BF16)) {
        for (uint e = 0u; i + e < n; e++) v[e >> 2][e & 3u] = w_elem(row, i + e);
    }
    for (uint q = 0u; q < 4u; q++)
        for (uint e = 0u; e < 4u; e++) w_tile[to + 4u * q + e] = to_f16(v[q][e]);
}

/* Eight elements of an input: LANES are TILE_COLS inputs of 4. */
void stage_x(uint k0, uint n) {
    uint lane = gl_LocalInvocationIndex, at = coop_x[lane >> 2];
    uint i = 8u * (lane & 3u), to = (lane >> 2) * PITCH + i;
    for (uint e = 0u; e < 8u; e++) {
        float v = at != COOP_NONE && k0 + i + e < n ? x[at + k0 + i + e] : 0.0;
#ifdef DIRECT
        /* Rounded in integers: a compiler may take float(float16_t(v)) for v, and the rest for 0. */
        float h = f16_round(v);
        precise float rest = v - h;
        precise float scaled = 2048.0 * rest;
        x_tile[to + e] = float16_t(h);
        x_rest[to + e] = f_abs(h) > 65504.0 ? float16_t(0.0) : to_f16(scaled); /* inf - inf is NaN */
#else
        x_tile[to + e] = to_f16(v);
#endif
    }
}

void coop_tile(uint n) {
    MATRIX_C sum[PER_SUB];
    for (uint i = 0u; i < PER_SUB; i++) sum[i] = MATRIX_C(SUM(0.0));
#ifdef DIRECT
    MATRIX_C sum_rest[PER_SUB];
    for (uint i = 0u; i < PER_SUB; i++) sum_rest[i] = MATRIX_C(SUM(0.0));
#endif
    for (uint k0 = 0u; k0 < n; k0 += TILE_DEPTH) {
        barrier(); /* the step before has been read */
        stage_w(k0, n);
        stage_x(k0, n);
        barrier();
        for (uint i = 0u; i < PER_SUB; i++) {
            uint part = gl_SubgroupID + i * N_SUB;
            if (part >= N_PART) break;
            uint row = part % (TILE_ROWS / CM) * CM, col = part / (TILE_ROWS / CM) * CN;
            for (uint k = 0u; k < TILE_DEPTH; k += CK) {
                MATRIX_A p;
                MATRIX_B q;
                coopMatLoad(p, w_tile, row * PITCH + k, PITCH, gl_CooperativeMatrixLayoutRowMajor);
                coopMatLoad(q, x_tile, col * PITCH + k, PITCH, gl_CooperativeMatrixLayoutColumnMajor);
                sum[i] = coopMatMulAdd(p, q, sum[i]);
#ifdef DIRECT
                coopMatLoad(q, x_rest, col * PITCH + k, PITCH, gl_CooperativeMatrixLayoutColumnMajor);
                sum_rest[i] = coopMatMulAdd(p, q, sum_rest[i]);
#endif
            }
        }
    }
    uint mine = gl_SubgroupID * CM * CN;
    for (uint i = 0u; i < PER_SUB; i++) {
        uint part = gl_SubgroupID + i * N_SUB;
        if (part >= N_PART) break;
        MATRIX_F32 s = MATRIX_F32(sum[i]);
#ifdef DIRECT
        MATRIX_F32 rest = MATRIX_F32(sum_rest[i]);
        for (uint e = 0u; e < s.length(); e++) {
            PRECISE float small = 0.00048828125 * rest[e];
            PRECISE float both = s[e] + small;
            s[e] = both;
        }
#endif
        coopMatStore(s, out_tile, mine, CM, gl_CooperativeMatrixLayoutColumnMajor);
        subgroupMemoryBarrierShared();
        subgroupBarrier();
        uint row = part % (TILE_ROWS / CM) * CM, col = part / (TILE_ROWS / CM) * CN;
        for (uint e = gl_SubgroupInvocationID; e < CM * CN; e += SUBGROUP)
            if (coop_w[row + e % CM] != COOP_NONE && coop_x[col + e / CM] != COOP_NONE)
                coop_put(row + e % CM, col + e / CM, fz(out_tile[mine + e]));
        subgroupMemoryBarrierShared();
        subgroupBarrier();
    }
}
