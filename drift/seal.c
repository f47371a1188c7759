#include "drift/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/base/mem.h"

#define SLAB_BYTES ((size_t)1 << 20)

#define COPY_AT 64
#define COPY_BYTES 64

static const char magic[] = "ds4-drift run 1\n"; /* 16 bytes and the terminator */
static const char *const state_text[2] = {"partial ", "complete"};

static ds4_status read_at(int fd, const char *path, void *dst, size_t n, uint64_t off,
                          ds4_err *err) {
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(fd, (char *)dst + done, n - done, (off_t)(off + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return ds4_err_set(err, DS4_ERR_IO, DS4_HERE, "%.300s: %s", path, strerror(errno));
        if (got == 0)
            return ds4_err_set(err, DS4_ERR_FORMAT, DS4_HERE, "%.300s: shrank while being read",
                               path);
        done += (size_t)got;
    }
    return DS4_OK;
}

static ds4_status write_at(int fd, const char *path, const void *src, size_t n, uint64_t off,
                           ds4_err *err) {
    for (size_t done = 0; done < n;) {
        ssize_t put = pwrite(fd, (const char *)src + done, n - done, (off_t)(off + done));
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0)
            return ds4_err_set(err, DS4_ERR_IO, DS4_HERE, "%.300s: cannot write: %s", path,
                               strerror(errno));
        done += (size_t)put;
    }
    return DS4_OK;
}

/* XXH3-128 of bytes DRIFT_SEAL_BYTES .. length - 1. */
static ds4_status hash_file(uint8_t out[16], int fd, const char *path, uint64_t length,
                            ds4_err *err) {
    ds4_status st = DS4_OK;
    uint8_t *slab = NULL;
    XXH128_canonical_t text;
    XXH3_state_t *h = XXH3_createState();

    if (!h) RAISE(DS4_ERR_MEMORY, "out of memory: hash state");
    TRY(ds4_mem_alloc(&slab, SLAB_BYTES, 1, err));
    XXH3_128bits_reset(h);
    for (uint64_t off = DRIFT_SEAL_BYTES; off < length;) {
        size_t n = length - off < SLAB_BYTES ? (size_t)(length - off) : SLAB_BYTES;
        TRY(read_at(fd, path, slab, n, off, err));
        XXH3_128bits_update(h, slab, n);
        off += n;
    }
    XXH128_canonicalFromHash(&text, XXH3_128bits_digest(h));
    memcpy(out, text.digest, 16);
out:
    ds4_mem_free(slab);
    XXH3_freeState(h);
    return st;
}

static void put_le64(uint8_t *p, uint64_t v) {
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le64(const uint8_t *p) {
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

/* Opens a regular file; a directory or a device is no run file. */
static ds4_status open_file(int *out, uint64_t *size, const char *path, int flags,
                            ds4_err *err) {
    ds4_status st = DS4_OK;
    struct stat sb;
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 && errno == EISDIR)
        RAISE(DS4_ERR_FORMAT, "%.300s: a directory, wanted a run file", path);
    if (fd < 0 || fstat(fd, &sb) != 0) RAISE(DS4_ERR_IO, "%.300s: %s", path, strerror(errno));
    if (S_ISDIR(sb.st_mode))
        RAISE(DS4_ERR_FORMAT, "%.300s: a directory, wanted a run file", path);
    if (!S_ISREG(sb.st_mode))
        RAISE(DS4_ERR_FORMAT, "%.300s: not a regular file, wanted a run file", path);
    *out = fd, *size = (uint64_t)sb.st_size, fd = -1;
out:
    if (fd >= 0) close(fd);
    return st;
}

ds4_status drift_seal_write(const char *path, bool complete, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint8_t block[DRIFT_SEAL_BYTES] = {0};
    uint64_t size;
    int fd = -1;

    TRY(open_file(&fd, &size, path, O_RDWR, err));
    memcpy(block, magic, 16);
    memcpy(block + 16, state_text[complete], 8);
    put_le64(block + 24, size);
    if (size < DRIFT_SEAL_BYTES + COPY_BYTES)
        RAISE(DS4_ERR_FORMAT, "%.300s: %ju bytes are too few to seal", path, (uintmax_t)size);
    TRY(read_at(fd, path, block + COPY_AT, COPY_BYTES, DRIFT_SEAL_BYTES, err));
    TRY(hash_file(block + 32, fd, path, size, err));
    TRY(write_at(fd, path, block, sizeof block, 0, err));
    if (fsync(fd) != 0) RAISE(DS4_ERR_IO, "%.300s: cannot sync: %s", path, strerror(errno));
out:
    if (fd >= 0) close(fd);
    return st;
}

ds4_status drift_seal_complete(const char *path, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint64_t size;
    int fd = -1;

    TRY(open_file(&fd, &size, path, O_RDWR, err));
    TRY(write_at(fd, path, state_text[1], 8, 16, err));
    if (fsync(fd) != 0) RAISE(DS4_ERR_IO, "%.300s: cannot sync: %s", path, strerror(errno));
out:
    if (fd >= 0) close(fd);
    return st;
}

/* The 512 bytes themselves, against the size of the file. */
static ds4_status check_block(const uint8_t *block, const char *path, uint64_t size,
                              bool complete, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint64_t length = get_le64(block + 24);

    if (memcmp(block, magic, 14) != 0)
        RAISE(DS4_ERR_FORMAT, "%.300s: not a ds4-drift run file", path);
    if (memcmp(block, magic, 16) != 0)
        RAISE(DS4_ERR_FORMAT, "%.300s: seal version '%c', wanted '1'", path, block[14]);
    if (memcmp(block + 16, state_text[complete], 8) != 0)
        RAISE(DS4_ERR_FORMAT, "%.300s: the run is marked '%.8s', wanted '%s'", path,
              (const char *)block + 16, state_text[complete]);
    if (size < length)
        RAISE(DS4_ERR_FORMAT, "%.300s: truncated: has %ju bytes, expected %ju", path,
              (uintmax_t)size, (uintmax_t)length);
    if (length < DRIFT_SEAL_BYTES + COPY_BYTES || (complete && size > length))
        RAISE(DS4_ERR_FORMAT, "%.300s: has %ju bytes, expected %ju", path, (uintmax_t)size,
              (uintmax_t)length);
    for (size_t i = 48; i < DRIFT_SEAL_BYTES; i++)
        if (block[i] && (i < COPY_AT || i >= COPY_AT + COPY_BYTES))
            RAISE(DS4_ERR_FORMAT, "%.300s: damaged: byte %zu is not zero", path, i);
out:
    return st;
}

static ds4_status check(int fd, const char *path, uint64_t size, bool complete, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint8_t block[DRIFT_SEAL_BYTES], hash[16], copy[COPY_BYTES];
    uint64_t length;

    if (size == 0) RAISE(DS4_ERR_FORMAT, "%.300s: the file is empty", path);
    if (size < sizeof block)
        RAISE(DS4_ERR_FORMAT, "%.300s: truncated: has %ju bytes, a run file has at least %zu",
              path, (uintmax_t)size, sizeof block);
    TRY(read_at(fd, path, block, sizeof block, 0, err));
    TRY(check_block(block, path, size, complete, err));
    length = get_le64(block + 24);
    if (!complete) TRY(write_at(fd, path, block + COPY_AT, COPY_BYTES, DRIFT_SEAL_BYTES, err));
    TRY(read_at(fd, path, copy, COPY_BYTES, DRIFT_SEAL_BYTES, err));
    TRY(hash_file(hash, fd, path, length, err));
    if (memcmp(hash, block + 32, 16) != 0 || memcmp(copy, block + COPY_AT, COPY_BYTES) != 0)
        RAISE(DS4_ERR_FORMAT, "%.300s: damaged: checksum differs", path);
    if (size > length && ftruncate(fd, (off_t)length) != 0)
        RAISE(DS4_ERR_IO, "%.300s: cannot truncate: %s", path, strerror(errno));
out:
    return st;
}

ds4_status drift_seal_check(const char *path, ds4_err *err) {
    uint64_t size;
    int fd = -1;
    ds4_status st = open_file(&fd, &size, path, O_RDONLY, err);
    if (st == DS4_OK) st = check(fd, path, size, true, err);
    if (fd >= 0) close(fd);
    return st;
}

ds4_status drift_seal_recover(const char *path, ds4_err *err) {
    uint64_t size;
    int fd = -1;
    ds4_status st = open_file(&fd, &size, path, O_RDWR, err);
    if (st == DS4_OK) st = check(fd, path, size, false, err);
    if (fd >= 0) close(fd);
    return st;
}

ds4_status drift_seal_sync_dir(const char *path, ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *slash = strrchr(path, '/');
    char dir[PATH_MAX];
    int n =
        slash ? snprintf(dir, sizeof dir, "%.*s", slash > path ? (int)(slash - path) : 1, path)
              : snprintf(dir, sizeof dir, ".");
    int fd =
        n > 0 && (size_t)n < sizeof dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (fd < 0 || fsync(fd) != 0)
        RAISE(DS4_ERR_IO, "%.300s: cannot sync its directory: %s", path, strerror(errno));
out:
    if (fd >= 0) close(fd);
    return st;
}
