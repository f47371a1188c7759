/* Products of weight codes with inputs rounded to 8 bits, AT inputs for one weight row each.
 *
 * An input is cut in blocks of 32 elements, whatever the weight's format: scale d = max |x| / 127 in
 * f32, code = round_even(x * (1 / d)), clamped to -128 .. 127 (as ds4_act_round does for Q8_0). The
 * group stages CHUNK elements of AT inputs at a time, a block by each of the first 32 invocations.
 *
 * Weights of a block format are code * scale - minimum per half block of 16. Their codes and those
 * of the input meet in integers, so exactly, and per half block
 *     sum += d * (scale * sum(code_w * code_x) - minimum * sum(code_x))
 * in f32, half blocks in increasing order. Unblocked weights have no codes: the products w * code_x
 * of a half block are added as dot4 of each quarter, (0 + 1) + (2 + 3), then times d; elements past
 * the last half block one by one.
 *
 * PACKED: four codes at a time by the device's packed dot product. The bits are the same.
 * Before including: quant.glsl, reduce.glsl, a buffer float x[], AT (1 or 4). */
const uint Q8_BLOCKS = 32u / AT, CHUNK = 32u * Q8_BLOCKS; /* per input */
const bool UNBLOCKED = WTYPE == Q_F32 || WTYPE == Q_F16 || WTYPE == Q_BF16;

shared uint q8_word[32 * 8]; /* [AT][CHUNK / 4] codes */
shared float q8_scale[32];   /* [AT][Q8_BLOCKS] */
shared int q8_sum[64];       /* [AT][CHUNK / 16] sums of codes */

#ifdef PACKED
int idot(uint p, uint q) { return dotPacked4x8EXT(int(p), int(q)); }
#else
int idot(uint p, uint q) {
    int i = int(p), j = int(q);
    return bitfieldExtract(i, 0, 8) * bitfieldExtract(j, 0, 8) + bitfieldExtract(i, 8, 8) * bitfieldExtract(j, 8, 8) +
           bitfieldExtract(i, 16, 8) * bitfieldExtract(j, 16, 8) + (i >> 24) * (j >> 24);
}
#endif

/* Block `lane` of the chunk at element i0 of the inputs at[0 .. AT - 1]; n_at exist, of n elements. */
void q8_stage(uvec4 at, uint n_at, uint i0, uint n) {
    uint lane = gl_LocalInvocationIndex, t = lane / Q8_BLOCKS, b = i0 + 32u * (lane % Q8_BLOCKS);
    if (lane >= 32u) return;
    uint end = t < n_at ? min(b + 32u, n) : b;
    float top = 0.0;
    for (uint i = b; i < end; i++)
        if (f_abs(x[at[t] + i]) > top) top = f_abs(x[at[t] + i]);
    float d = f_div(top, 127.0), inv = top == 0.0 ? 0.0 : f_div(1.0, d);
    q8_scale[lane] = d;
    for (uint half_ = 0u; half_ < 2u; half_++) {
        int sum = 0;
        for (uint w = 0u; w < 4u; w++) {
            uint word = 0u;
            for (uint e = 0u; e < 4u; e++) {
                uint i = b + 16u * half_ + 4u * w + e;
                float code = i < end ? round_even(f_mul(x[at[t] + i], inv)) : 0.0;
                int c = int(code > 127.0 ? 127.0 : code < -128.0 ? -128.0 : code);
                sum += c;
                word |= (uint(c) & 255u) << (8u * e);
            }
            q8_word[8u * lane + 4u * half_ + w] = word;
        }
        q8_sum[2u * lane + half_] = sum;
    }
}

/* Signed codes of the octet of IQ2_XXS with this grid index and sign index. */
uvec2 iq2_codes8(uint index, uint s) {
    uint code = (iq2_codes[index >> 1] >> ((index & 1u) * 16u)) & 0xffffu, minus = s | ((uint(bitCount(s)) & 1u) << 7);
    uvec2 word = uvec2(0u);
    for (uint e = 0u; e < 8u; e++) {
        uint d = (code >> (2u * e)) & 3u;
        int v = int(8u + 17u * d + (d >> 1));
        if ((minus >> e & 1u) != 0u) v = -v;
        word[e >> 2] |= (uint(v) & 255u) << (8u * (e & 3u));
    }
    return word;
}

/* Half block k of a row of a block format: 16 codes, and (scale, minimum). */
vec2 w_codes16(uint row, uint k, out uvec4 c) {
    if (WTYPE == Q_Q8_0) {
        uint p = row + (k >> 1) * 34u, at = p + 2u + (k & 1u) * 16u;
        c = uvec4(w_u32(at), w_u32(at + 4u), w_u32(at + 8u), w_u32(at + 12u));
        return vec2(f16_widen(w_u16(p)), 0.0);
    }
    if (WTYPE == Q_Q4_K) {
        uint i = k & 15u, p = row + (k >> 4) * 144u, sh = ((i >> 1) & 1u) * 4u;
        uint at = p + 16u + 32u * (i >> 2) + 16u * (i & 1u), dd = w_u32(p);
        uvec2 sm = q4_k_scale(p + 4u, i >> 1);
        c = (uvec4(w_u32(at), w_u32(at + 4u), w_u32(at + 8u), w_u32(at + 12u)) >> sh) & 0x0f0f0f0fu;
        return vec2(f_mul(f16_widen(dd & 0xffffu), float(sm.x)), f_mul(f16_widen(dd >> 16), float(sm.y)));
    }
    if (WTYPE == Q_Q2_K) {
        uint i = k & 15u, p = row + (k >> 4) * 84u, sh = ((i >> 1) & 3u) * 2u;
        uint at = p + 16u + 32u * (i >> 3) + 16u * (i & 1u), sc = w_u8(p + i), dd = w_u32(p + 80u);
        c = (uvec4(w_u32(at), w_u32(at + 4u), w_u32(at + 8u), w_u32(at + 12u)) >> sh) & 0x03030303u;
        return vec2(f_mul(f16_widen(dd & 0xffffu), float(sc & 15u)), f_mul(f16_widen(dd >> 16), float(sc >> 4)));
    }
    uint i = k & 15u, p = row + (k >> 4) * 66u, at = p + 2u + 8u * (i >> 1), o = 2u * (i & 1u);
    uint index = w_u32(at) >> (8u * o), signs = w_u32(at + 4u);
    c = uvec4(iq2_codes8(index & 255u, (signs >> (7u * o)) & 127u),
              iq2_codes8((index >> 8) & 255u, (signs >> (7u * o + 7u)) & 127u));
    return vec2(f_mul(f_mul(f16_widen(w_u16(p)), float(2u * (signs >> 28) + 1u)), 0.125), 0.0);
}

vec4 q8_codes(uint word) { return f_sbytes(q8_word[word]); }

/* One half block into the sum of input t; h: its number in the chunk. */
float q8_add(float sum, uint t, uint h, uvec4 c, vec2 s) {
    uint w = (t * CHUNK >> 2) + 4u * h;
    int dot_ = idot(c.x, q8_word[w]) + idot(c.y, q8_word[w + 1u]) + idot(c.z, q8_word[w + 2u]) + idot(c.w, q8_word[w + 3u]);
    PRECISE float v = s.x * float(dot_);
    if (WTYPE == Q_Q4_K || WTYPE == Q_Q2_K) {
        PRECISE float m = s.y * float(q8_sum[(t * CHUNK >> 4) + h]);
        PRECISE float less = v - m;
        v = less;
    }
    return MAD(q8_scale[t * Q8_BLOCKS + (h >> 1)], v, sum);
}

float q8_add_float(float sum, uint t, uint h, vec4 v0, vec4 v1, vec4 v2, vec4 v3) {
    uint w = (t * CHUNK >> 2) + 4u * h;
    PRECISE float s01 = dot4(v0, q8_codes(w)) + dot4(v1, q8_codes(w + 1u));
    PRECISE float s23 = dot4(v2, q8_codes(w + 2u)) + dot4(v3, q8_codes(w + 3u));
    PRECISE float s = s01 + s23;
    return MAD(q8_scale[t * Q8_BLOCKS + (h >> 1)], s, sum);
}

float q8_add_elem(float sum, uint t, uint i, float v) {
    vec4 codes = q8_codes((t * CHUNK >> 2) + (i >> 2));
    PRECISE float p = v * codes[i & 3u];
    return MAD(q8_scale[t * Q8_BLOCKS + (i >> 5)], p, sum);
}

/* Sums of n products of the weight row at byte `row` with the inputs at at[]. Every invocation
 * of the group calls it; one without a row says has_row = false. */
vec4 q8_dot(uint row, bool has_row, uvec4 at, uint n_at, uint n) {
    vec4 sum = vec4(0.0);
    for (uint i0 = 0u; i0 < n; i0 += CHUNK) {
        barrier(); /* the chunk before has been read */
        q8_stage(at, n_at, i0, n);
        barrier();
        if (!has_row) continue;
        uint end = min(n - i0, CHUNK);
        for (uint h = 0u; 16u * h + 16u <= end; h++) {
            if (UNBLOCKED) {
                vec4 v0, v1, v2, v3;
                w_load16(row, (i0 >> 4) + h, v0, v1, v2, v3);
                for (uint t = 0u; t < n_at; t++) sum[t] = q8_add_float(sum[t], t, h, v0, v1, v2, v3);
            } else {
                uvec4 c;
                vec2 s = w_codes16(row, (i0 >> 4) + h, c);
                for (uint t = 0u; t < n_at; t++) sum[t] = q8_add(sum[t], t, h, c, s);
            }
        }
        for (uint i = end & ~15u; UNBLOCKED && i < end; i++) {
            float w = w_elem(row, i0 + i);
            for (uint t = 0u; t < n_at; t++) sum[t] = q8_add_elem(sum[t], t, i, w);
        }
    }
    return sum;
}
