/* Steps that probe_float.comp takes on a, b and c; included by C and by GLSL. f: the float of these bits. */
#define PROBE_ADD 0u      /* f(a) + f(b) */
#define PROBE_SUB 1u      /* f(a) - f(b) */
#define PROBE_MUL 2u      /* f(a) * f(b) */
#define PROBE_MUL_ADD 3u  /* f(a) * f(b) + f(c), each rounded */
#define PROBE_SUB_MUL 4u  /* f(c) - f(a) * f(b), each rounded */
#define PROBE_ADD_ADD 5u  /* (f(a) + f(b)) + f(c) */
#define PROBE_ADD_SUB 6u  /* (f(a) + f(b)) - f(b) */
#define PROBE_MUL_SUM 7u  /* f(a) * f(b) + f(a) * f(c), each rounded */
#define PROBE_NEG 8u      /* -f(a) */
#define PROBE_LESS 9u     /* f(a) < f(b): 1 or 0 */
#define PROBE_EQUAL 10u   /* f(a) == f(b): 1 or 0 */
#define PROBE_MOVE 11u    /* f(a), loaded and stored as a float */
#define PROBE_TO_UINT 12u /* uint(f(a)) */
#define PROBE_TO_INT 13u  /* int(f(a)) */
#define PROBE_OF_UINT 14u /* float(a) */
#define PROBE_OF_INT 15u  /* float(int(a)) */
#define PROBE_UMUL_HI 16u /* high word of a * b */
#define PROBE_UMUL_LO 17u /* low word of a * b */
#define PROBE_CARRY 18u   /* carry of a + b */
#define PROBE_SHL 19u     /* a << b */
#define PROBE_SHR 20u     /* a >> b */
#define PROBE_SAR 21u     /* int(a) >> b */
#define PROBE_SIGNED 22u  /* the low 8 bits of a >> b as a signed number */
#define PROBE_DIV 23u     /* f(a) / f(b) by the device's own instruction */
#define PROBE_SQRT 24u    /* sqrt(f(a)) by the device's own instruction */
#define PROBE_FMA 25u     /* fma(f(a), f(b), f(c)) by the device's own instruction */
#define PROBE_PACK16 26u  /* packHalf2x16(f(a), 0) */
#define PROBE_UNPACK16 27u /* unpackHalf2x16(a).x */
