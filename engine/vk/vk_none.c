/* Stands in for the Vulkan engine in a build with VULKAN=0 (Makefile). */
#include "engine/vk/vk.h"

static ds4_status absent(ds4_err *err) {
    return ds4_err_set(err, DS4_ERR_ENVIRONMENT, DS4_HERE,
                       "engine vk: this program was built without Vulkan (VULKAN=0)");
}

ds4_status ds4_vk_open(ds4_backend **out, const ds4_vk_options *opt, ds4_err *err) {
    (void)out, (void)opt;
    return absent(err);
}

const char *ds4_vk_left_out(uint32_t i, const char **reason) {
    (void)i, (void)reason;
    return NULL;
}

const char *ds4_vk_unfit(const ds4_backend *b) {
    (void)b;
    return NULL;
}

ds4_status ds4_vk_device_list(ds4_vk_device_info **out, uint32_t *n, ds4_err *err) {
    (void)out, (void)n;
    return absent(err);
}

ds4_vk_built ds4_vk_pipelines_built(const ds4_backend *b) {
    (void)b;
    return (ds4_vk_built){0};
}

ds4_status ds4_vk_ceilings(ds4_vk_ceiling out[DS4_VK_MAX_CEILING], uint32_t *n, ds4_backend *b,
                           ds4_err *err) {
    (void)out, (void)n, (void)b;
    return absent(err);
}

const char *ds4_vk_row_ceiling(const ds4_backend *b, ds4_op op, const char *row) {
    (void)b, (void)op, (void)row;
    return "fma";
}
