#include "engine/vk/vk_cache.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "engine/base/file.h"
#include "engine/base/mem.h"

#define CACHE_BYTES_MAX ((size_t)1 << 30) /* of a file that is worth reading or writing */

struct head {
    char magic[8];
    uint64_t n_bytes, digest[2];
};
static const char magic[8] = {'D', 'S', '4', 'P', 'C', '0', '0', '1'};

static void digest_of(uint64_t out[2], const void *p, size_t n) {
    XXH128_hash_t h = XXH3_128bits(p, n);
    out[0] = h.high64, out[1] = h.low64;
}

static ds4_status path_new(char **out, const ds4_vk_device *d, const char *dir,
                           const uint64_t spirv[2], ds4_err *err) {
    ds4_status st = DS4_OK;
    VkPhysicalDeviceProperties p;
    struct {
        uint64_t spirv[2];
        uint32_t vendor, device, driver, api;
        uint8_t uuid[VK_UUID_SIZE];
        char name[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE];
    } key;
    uint64_t digest[2];
    size_t n = strlen(dir) + 48;

    vkGetPhysicalDeviceProperties(d->physical, &p);
    memset(&key, 0, sizeof key);
    memcpy(key.spirv, spirv, sizeof key.spirv);
    key.vendor = p.vendorID, key.device = p.deviceID;
    key.driver = p.driverVersion, key.api = p.apiVersion;
    memcpy(key.uuid, p.pipelineCacheUUID, sizeof key.uuid);
    snprintf(key.name, sizeof key.name, "%s", p.deviceName);
    digest_of(digest, &key, sizeof key);
    TRY(ds4_mem_alloc(out, n, 1, err));
    snprintf(*out, n, "%s/%016llx%016llx.vkcache", dir, (unsigned long long)digest[0],
             (unsigned long long)digest[1]);
out:
    return st;
}

static ds4_status check_dir(const char *dir, ds4_err *err) {
    ds4_status st = DS4_OK;
    struct stat sb;

    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        RAISE(DS4_ERR_IO, "pipeline cache %.300s: %s", dir, strerror(errno));
    if (stat(dir, &sb) != 0)
        RAISE(DS4_ERR_IO, "pipeline cache %.300s: %s", dir, strerror(errno));
    if (!S_ISDIR(sb.st_mode))
        RAISE(DS4_ERR_IO, "pipeline cache %.300s: found no folder, wanted one", dir);
    if (access(dir, W_OK | X_OK) != 0)
        RAISE(DS4_ERR_IO, "pipeline cache %.300s: %s", dir, strerror(errno));
out:
    return st;
}

/* The payload of a whole file, or NULL. */
static const void *payload(const ds4_file *f, struct head *h) {
    const uint8_t *p = ds4_file_data(f);
    uint64_t digest[2];
    size_t n = ds4_file_bytes(f);
    if (n < sizeof *h || n > CACHE_BYTES_MAX) return NULL;
    memcpy(h, p, sizeof *h);
    if (memcmp(h->magic, magic, sizeof magic) || h->n_bytes != n - sizeof *h) return NULL;
    digest_of(digest, p + sizeof *h, n - sizeof *h);
    return memcmp(digest, h->digest, sizeof digest) ? NULL : p + sizeof *h;
}

/* Whether it ends with the header of the driver, whose first word is its length. */
static bool is_empty(const void *p, size_t n) {
    uint32_t header;
    if (n < sizeof header) return true;
    memcpy(&header, p, sizeof header);
    return n <= header;
}

ds4_status ds4_vk_cache_init(ds4_vk_cache *c, const ds4_vk_device *d, const char *dir,
                             const uint64_t spirv[2], ds4_err *err) {
    ds4_status st = DS4_OK;
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
    ds4_file *f = NULL;
    struct head h;

    *c = (ds4_vk_cache){.device = d->device, .outcome = dir ? "cold" : "off"};
    if (dir) {
        TRY(check_dir(dir, err));
        TRY(path_new(&c->path, d, dir, spirv, err));
        if (access(c->path, F_OK) == 0) {
            c->outcome = "cold: the file was damaged";
            if (ds4_file_open(&f, c->path, NULL) == DS4_OK) info.pInitialData = payload(f, &h);
        }
    }
    if (info.pInitialData) {
        info.initialDataSize = (size_t)h.n_bytes;
        memcpy(c->digest, h.digest, sizeof c->digest);
        c->outcome = is_empty(info.pInitialData, info.initialDataSize)
                         ? "cold: the driver keeps nothing"
                         : "warm";
    }
    TRYVK("pipeline cache", vkCreatePipelineCache(d->device, &info, NULL, &c->handle));
out:
    ds4_file_close(f);
    return st;
}

static ds4_status save(ds4_vk_cache *c, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_file_writer *w = NULL;
    struct head h;
    void *p = NULL;
    size_t n = 0;

    TRYVK("pipeline cache", vkGetPipelineCacheData(c->device, c->handle, &n, NULL));
    if (n == 0 || n > CACHE_BYTES_MAX - sizeof h) goto out;
    TRY(ds4_mem_alloc(&p, n, 1, err));
    TRYVK("pipeline cache", vkGetPipelineCacheData(c->device, c->handle, &n, p));
    memcpy(h.magic, magic, sizeof magic);
    h.n_bytes = n;
    digest_of(h.digest, p, n);
    if (!memcmp(h.digest, c->digest, sizeof h.digest)) goto out;
    TRY(ds4_file_writer_open(&w, c->path, err));
    TRY(ds4_file_writer_put(w, &h, sizeof h, err));
    TRY(ds4_file_writer_put(w, p, n, err));
    st = ds4_file_writer_finish(w, err);
    w = NULL;
    if (st == DS4_OK) memcpy(c->digest, h.digest, sizeof c->digest);
out:
    ds4_file_writer_abandon(w);
    ds4_mem_free(p);
    return st;
}

const char *ds4_vk_cache_text(ds4_vk_cache *c) {
    ds4_err err = {0};
    if (!c->path || save(c, &err) == DS4_OK) return c->outcome;
    snprintf(c->text, sizeof c->text, "%s; could not be kept: %.200s", c->outcome, err.message);
    return c->text;
}

void ds4_vk_cache_fini(ds4_vk_cache *c) {
    if (c->handle && c->path) (void)save(c, NULL);
    if (c->handle) vkDestroyPipelineCache(c->device, c->handle, NULL);
    ds4_mem_free(c->path);
    *c = (ds4_vk_cache){0};
}
