#include "drift/cmd/info_device.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "drift/cmd/options.h"
#include "engine/base/mem.h"
#include "engine/ops/backend.h"
#include "engine/variants.h"
#include "engine/vk/vk.h"

/* Facts by the beginning of their keys; the first group that fits takes it. */
static const struct {
    const char *title, *prefix[8];
} groups[] = {
    {"driver", {"device", "vendor_id", "api_version", "driver", "conformance"}},
    {"subgroups", {"subgroup"}},
    {"cooperative matrices", {"cooperative_matrix", "coopmat"}},
    {"features and extensions", {"kernel_features", "extension"}},
    {"limits", {"max_", "min_", "non_coherent", "timestamp"}},
    {"heaps", {"heap."}},
    {"float controls as the driver tells them", {"float_controls"}},
    {"arithmetic as measured", {"float_measured."}},
    {"float controls, told against measured", {"float_claim.", "float_warning"}},
    {"SPIR-V of each row", {"spirv."}},
    {"this program", {""}},
};
enum { N_GROUP = sizeof groups / sizeof *groups };

static size_t group_of(const char *key) {
    for (size_t i = 0; i < N_GROUP; i++)
        for (size_t j = 0; j < 8 && groups[i].prefix[j]; j++)
            if (!strncmp(key, groups[i].prefix[j], strlen(groups[i].prefix[j]))) return i;
    return N_GROUP - 1;
}

/* The facts of an opened device, else those of the list. */
typedef struct device {
    const ds4_vk_device_info *info;
    ds4_backend *b; /* NULL: not opened */
    const char *unfit;
} device;

static bool fact_at(const device *d, uint32_t i, const char **key, const char **value) {
    if (d->b) return d->b->ops->fact(d->b, i, key, value);
    if (i >= d->info->n_fact) return false;
    *key = d->info->fact[i].key, *value = d->info->fact[i].value;
    return true;
}

static void print_text(const device *d, uint32_t index) {
    const char *key, *value;
    printf("device %u: %s%s%s\n", index, d->info->fact[0].value, d->unfit ? ", unfit: " : "",
           d->unfit ? d->unfit : "");
    for (size_t g = 0; g < N_GROUP; g++) {
        bool any = false;
        for (uint32_t i = 0; fact_at(d, i, &key, &value); i++) {
            if (group_of(key) != g) continue;
            if (!any) printf("  %s\n", groups[g].title);
            any = true;
            printf("    %-44s %s\n", key, value);
        }
    }
}

static json_t *to_json(const device *d, uint32_t index) {
    const char *key, *value;
    json_t *facts = json_object();
    for (uint32_t i = 0; fact_at(d, i, &key, &value); i++)
        json_object_set_new(facts, key, json_string(value));
    return json_pack("{s:i, s:s?, s:o}", "index", (int)index, "unfit", d->unfit, "facts",
                     facts);
}

ds4_status info_devices(bool json, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk_device_info *list = NULL;
    json_t *all = json ? json_array() : NULL;
    uint32_t n = 0;

    TRY(ds4_vk_device_list(&list, &n, err));
    if (!n && !json) puts("no Vulkan device");
    for (uint32_t i = 0; i < n; i++) {
        device d = {.info = &list[i], .unfit = list[i].unfit};
        ds4_err why = {0};
        if (!d.unfit && ds4_vk_open(&d.b,
                                    &(ds4_vk_options){.device = (int32_t)i,
                                                      .describe = true,
                                                      .wrong = ds4_setting("DS4_VK_WRONG")},
                                    &why) != DS4_OK)
            d.unfit = why.message;
        if (d.b && !d.unfit) d.unfit = ds4_vk_unfit(d.b);
        if (json) json_array_append_new(all, to_json(&d, i));
        else print_text(&d, i);
        if (d.b) cmd_warn_device(d.b), d.b->ops->close(d.b);
    }
    if (json && (json_dumpf(all, stdout, JSON_INDENT(1)) || putchar('\n') == EOF))
        RAISE(DS4_ERR_IO, "the list of devices cannot be written");
out:
    json_decref(all);
    ds4_mem_free(list);
    return st;
}
