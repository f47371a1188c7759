#version 450
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
/* Products of cooperative matrices from registers: 2 left times 4 right operands, n_step times, into
 * sums of their own. Shape and layouts are those of the rows (glsl/coop.glsl); F16_SUM: sums in f16.
 * Group: constant 0 gives its invocations. Bindings: 1 y f32 [groups * invocations]; argument: n_step. */
layout(local_size_x_id = 0) in;
layout(std430, set = 0, binding = 1) writeonly buffer Y_ { float y[]; };
layout(std140, set = 1, binding = 0) uniform Args_ { uint n_step; };
layout(constant_id = 7) const uint CM = 16;
layout(constant_id = 8) const uint CN = 16;
layout(constant_id = 9) const uint CK = 16;

#ifdef F16_SUM
#define SUM float16_t
#else
#define SUM float
#endif
#define MATRIX_A coopmat<float16_t, gl_ScopeSubgroup, CM, CK, gl_MatrixUseA>
#define MATRIX_B coopmat<float16_t, gl_ScopeSubgroup, CK, CN, gl_MatrixUseB>
#define MATRIX_C coopmat<SUM, gl_ScopeSubgroup, CM, CN, gl_MatrixUseAccumulator>

const uint N_A = 2u, N_B = 4u, N_ELEM = 64u * 32u + 8u * N_B; /* the largest operand, at N_B offsets */
shared float16_t tile[N_ELEM];

void main() {
    /* Mixed signs, no zero, different for every element: sums stay small and finite. */
    for (uint i = gl_LocalInvocationIndex; i < N_ELEM; i += gl_WorkGroupSize.x)
        tile[i] = float16_t((float((i * 2654435761u) >> 20) - 2047.5) / 8192.0);
    barrier();
    MATRIX_A p[N_A];
    MATRIX_B q[N_B];
    MATRIX_C sum[N_A * N_B];
    for (uint i = 0u; i < N_A; i++)
        coopMatLoad(p[i], tile, 8u * i, CK, gl_CooperativeMatrixLayoutRowMajor);
    for (uint i = 0u; i < N_B; i++)
        coopMatLoad(q[i], tile, 8u * i, CK, gl_CooperativeMatrixLayoutColumnMajor);
    for (uint i = 0u; i < N_A * N_B; i++) sum[i] = MATRIX_C(SUM(0.0));
    for (uint k = 0u; k < n_step; k++)
        for (uint i = 0u; i < N_A * N_B; i++) sum[i] = coopMatMulAdd(p[i / N_B], q[i % N_B], sum[i]);
    float all = 0.0;
    for (uint i = 0u; i < N_A * N_B; i++)
        for (uint e = 0u; e < sum[i].length(); e++) all += float(sum[i][e]);
    y[gl_GlobalInvocationID.x] = all;
}
