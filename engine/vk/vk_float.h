#ifndef DS4_VK_FLOAT_H
#define DS4_VK_FLOAT_H
/* The arithmetic of a device, measured: a kernel takes every step of vk_float.def on operands
 * that no compiler knows, and its words are compared with those that the properties ask for. */
#include "engine/vk/vk_graph.h"

enum {
#define PROPERTY(name, ...) FLOAT_##name,
#define CASE(...)
#define MODE(...)
#include "engine/vk/vk_float.def"
#undef PROPERTY
#undef CASE
#undef MODE
    DS4_VK_FLOAT_COUNT
};

enum {
#define PROPERTY(...)
#define CASE(...)
#define MODE(name, ...) MODE_##name,
#include "engine/vk/vk_float.def"
#undef PROPERTY
#undef CASE
#undef MODE
    DS4_VK_FLOAT_N_MODE
};

typedef struct ds4_vk_float_property {
    const char *name, *what, *why;
    bool strict; /* strict rows rely on it */
} ds4_vk_float_property;
extern const ds4_vk_float_property ds4_vk_float_table[DS4_VK_FLOAT_COUNT];

typedef struct ds4_vk_float_case {
    uint32_t property, step, a, b, c, want;
    bool any_nan; /* want stands for all of them */
    const char *step_name;
} ds4_vk_float_case;
const ds4_vk_float_case *ds4_vk_float_cases(uint32_t *n);

/* Texts: "yes", or "no: STEP a b c gave x, wanted y" of the first case that fails, words in
 * hex. */
typedef struct ds4_vk_float {
    bool holds[DS4_VK_FLOAT_COUNT];
    char text[DS4_VK_FLOAT_COUNT][128];
    /* What the driver claims of float controls, against what it does when asked: "not claimed",
     * "kept", or "broken: <property>: no: ...". */
    char claim[DS4_VK_FLOAT_N_MODE][192];
} ds4_vk_float;

/* Runs the probe on an open device. wrong: the property, or the claim by the driver's name for
 * it, one of whose words is taken for another (tests); NULL: none. Errors: DS4_ERR_USAGE for a
 * wrong of no such name; those of running a kernel. */
ds4_status ds4_vk_float_measure(ds4_vk_float *out, ds4_vk_device *d, ds4_vk_graph *g,
                                const char *wrong, ds4_err *err);

/* DS4_ERR_ENVIRONMENT that names the first property which strict rows rely on and the device
 * lacks. device: its name. */
ds4_status ds4_vk_float_check(const ds4_vk_float *m, const char *device, ds4_err *err);

#define DS4_VK_FLOAT_N_FACT (DS4_VK_FLOAT_COUNT + DS4_VK_FLOAT_N_MODE)
/* "float_measured.<property>" for each property, "float_claim.<driver's name>" for each mode;
 * then false. */
bool ds4_vk_float_fact(const ds4_vk_float *m, uint32_t i, const char **key, const char **value);

#endif
