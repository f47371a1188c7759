/* What every kernel opens with: the args structs, the local size, the specialization constants.
 * Constant ids 0, 1, 2: local size; 3: GGUF type id of the weight; 4: variant bits; 5, 6: where the
 * dispatch begins in the op's groups.
 * PRECISE marks every float result of a kernel: strict kernels (STRICT) and fast ones built for
 * DS4_SAFE_MATH (SAFE) forbid contraction and reassociation, the others allow both; MAD and dot4
 * (reduce.glsl) make use of that. */
#ifndef DS4_TYPES_GLSL
#define DS4_TYPES_GLSL
#include "args.h"

layout(local_size_x_id = 0, local_size_y_id = 1, local_size_z_id = 2) in;
layout(constant_id = 3) const uint WTYPE = 0;
layout(constant_id = 4) const uint VARIANTS = 0;
layout(constant_id = 5) const uint BASE_X = 0;
layout(constant_id = 6) const uint BASE_Y = 0;

const uint V_HC_STABLE = 1u, V_NORM_RSQRT_DISABLE = 2u, V_ROPE_EXP2_LOG2 = 4u, V_KV_RAW_F32 = 8u,
           V_STORE_EXACT = 16u, V_ACT_Q8 = 128u;

/* ARGS(ds4_args_<op>): the arguments of a call, as `a`. */
#define ARGS(type) layout(std140, set = 1, binding = 0) uniform Args_ { type a; };
/* The args of the calls of a fused row (fused.def) as a, b, c: each at a multiple of 16 bytes. */
#define ARGS2(A, B, at_b) layout(std140, set = 1, binding = 0) uniform Args_ { A a; layout(offset = at_b) B b; };
#define ARGS3(A, B, at_b, C, at_c)                                                               \
    layout(std140, set = 1, binding = 0) uniform Args_ { A a; layout(offset = at_b) B b; layout(offset = at_c) C c; };

#if defined(STRICT) || defined(SAFE)
#define PRECISE precise
#else
#define PRECISE
#endif

/* MAD(p, q, r): p * q + r, two roundings in strict and safe builds, fused otherwise. */
#if defined(STRICT) || defined(SAFE)
float MAD(float p, float q, float r) {
    precise float m = p * q;
    precise float s = m + r;
    return s;
}
#else
#define MAD(p, q, r) fma(p, q, r)
#endif

/* The group among all groups of the op; gl_WorkGroupID counts from 0 in each dispatch of a call that
 * takes several. */
#define GROUP_X (gl_WorkGroupID.x + BASE_X)
#define GROUP_Y (gl_WorkGroupID.y + BASE_Y)

/* The unit of the op's grid that an invocation owns where a group covers lx by ly units. */
#define UNIT_X (GROUP_X * gl_WorkGroupSize.x + gl_LocalInvocationID.x)
#define UNIT_Y (GROUP_Y * gl_WorkGroupSize.y + gl_LocalInvocationID.y)

#endif
