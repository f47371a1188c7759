#include "tests/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void test_ok(ds4_status st, const ds4_err *err) {
    if (st != DS4_OK) fail_msg("%s (%s)", err->message, err->origin);
}

char *test_read_file(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: cannot open", path);
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    char *p = malloc((size_t)size + 1);
    assert_int_equal(fread(p, 1, (size_t)size, f), size);
    p[size] = 0;
    fclose(f);
    *n = (size_t)size;
    return p;
}

uint32_t test_read_tokens(const char *path, int32_t **out) {
    size_t bytes;
    uint32_t n = 0;
    char *text = test_read_file(path, &bytes), *p = text, *end;
    *out = malloc((bytes / 2 + 1) * sizeof **out);
    for (long v = strtol(p, &end, 10); end != p; p = end, v = strtol(p, &end, 10))
        (*out)[n++] = (int32_t)v;
    free(text);
    return n;
}

ds4_engine *test_engine(const char *engine, const char *model) {
    ds4_engine *e = NULL;
    ds4_err err;
    test_ok(ds4_engine_open(&e, model,
                            &(ds4_engine_options){.engine = engine,
                                                  .device = -1,
                                                  .validation = test_vk_options().validation},
                            &err),
            &err);
    return e;
}

ds4_vk_options test_vk_options(void) {
    const char *v = getenv("DS4_VALIDATION");
    return (ds4_vk_options){.device = -1, .validation = v && !strcmp(v, "1")};
}

bool test_needs_device(void) {
    const char *require = getenv("REQUIRE_GPU");
    return require && !strcmp(require, "1");
}

bool test_has_device(void) {
    ds4_backend *b = NULL;
    ds4_err err;
    if (ds4_vk_open(&b, NULL, &err) == DS4_OK) {
        b->ops->close(b);
        return true;
    }
    if (test_needs_device()) fail_msg("REQUIRE_GPU=1: %s", err.message);
    print_message("SKIPPED: %s\n", err.message);
    return false;
}
