#include "engine/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/mem.h"

struct ds4_file {
    void *data;
    size_t n;
};

ds4_status ds4_file_open(ds4_file **out, const char *path, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_file *f = NULL;
    struct stat sb;
    void *data;

    /* O_NONBLOCK: a FIFO without a writer must be refused, not waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) RAISE(DS4_ERR_IO, "%.300s: %s", path, strerror(errno));
    if (fstat(fd, &sb) != 0) RAISE(DS4_ERR_IO, "%.300s: %s", path, strerror(errno));
    if (S_ISDIR(sb.st_mode)) RAISE(DS4_ERR_IO, "%.300s: is a directory, wanted a file", path);
    if (!S_ISREG(sb.st_mode)) RAISE(DS4_ERR_IO, "%.300s: not a regular file", path);
    if (sb.st_size == 0) RAISE(DS4_ERR_FORMAT, "%.300s: the file is empty", path);
    if ((uintmax_t)sb.st_size > (uintmax_t)PTRDIFF_MAX)
        RAISE(DS4_ERR_IO, "%.300s: %jd bytes do not fit in memory", path, (intmax_t)sb.st_size);

    TRY(ds4_mem_alloc(&f, 1, sizeof *f, err));
    data = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) RAISE(DS4_ERR_IO, "%.300s: cannot map: %s", path, strerror(errno));
    f->data = data, f->n = (size_t)sb.st_size;
    *out = f, f = NULL;
out:
    if (fd >= 0) close(fd);
    ds4_file_close(f);
    return st;
}

void ds4_file_close(ds4_file *f) {
    if (!f) return;
    if (f->data) munmap(f->data, f->n);
    ds4_mem_free(f);
}

void ds4_file_leave(ds4_file *f) { ds4_mem_free(f); }

const void *ds4_file_data(const ds4_file *f) { return f->data; }
size_t ds4_file_bytes(const ds4_file *f) { return f->n; }

struct ds4_file_writer {
    char *path, *partial; /* partial: NULL when there is none to remove */
    FILE *to;
};

ds4_status ds4_file_writer_open(ds4_file_writer **out, const char *path, ds4_err *err) {
    static const char suffix[] = ".partial";
    ds4_status st = DS4_OK;
    ds4_file_writer *w = NULL;
    char *partial = NULL;
    size_t n = strlen(path);
    struct stat old;
    int fd = -1;

    if (!stat(path, &old) && !S_ISREG(old.st_mode) && !S_ISDIR(old.st_mode))
        RAISE(DS4_ERR_USAGE, "%.200s: a device or a pipe, wanted a file", path);
    TRY(ds4_mem_alloc(&w, 1, sizeof *w, err));
    TRY(ds4_mem_strdup(&w->path, path, err));
    TRY(ds4_mem_alloc(&partial, n + sizeof suffix, 1, err));
    memcpy(partial, path, n);
    memcpy(partial + n, suffix, sizeof suffix);
    fd = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) RAISE(DS4_ERR_IO, "%.200s: cannot create: %s", partial, strerror(errno));
    w->partial = partial, partial = NULL;
    w->to = fdopen(fd, "wb");
    if (!w->to) RAISE(DS4_ERR_IO, "%.200s: %s", w->partial, strerror(errno));
    fd = -1;
    *out = w, w = NULL;
out:
    if (fd >= 0) close(fd);
    ds4_mem_free(partial);
    ds4_file_writer_abandon(w);
    return st;
}

ds4_status ds4_file_writer_check(const char *path, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_file_writer *w = NULL;
    struct stat old;

    if (!stat(path, &old) && S_ISDIR(old.st_mode))
        RAISE(DS4_ERR_IO, "%.200s: a folder, wanted a file", path);
    TRY(ds4_file_writer_open(&w, path, err));
    ds4_file_writer_abandon(w);
out:
    return st;
}

ds4_status ds4_file_writer_reserve(ds4_file_writer *w, uint64_t n, ds4_err *err) {
    if (n > INT64_MAX || (fallocate(fileno(w->to), FALLOC_FL_KEEP_SIZE, 0, (off_t)n) < 0 &&
                          (errno == ENOSPC || errno == EFBIG || errno == EDQUOT)))
        return ds4_err_set(err, DS4_ERR_IO, DS4_HERE, "%.200s: cannot hold %llu bytes: %s",
                           w->partial, (unsigned long long)n, strerror(errno));
    return DS4_OK;
}

ds4_status ds4_file_writer_put(ds4_file_writer *w, const void *p, size_t n, ds4_err *err) {
    if (!n || fwrite(p, 1, n, w->to) == n) return DS4_OK;
    return ds4_err_set(err, DS4_ERR_IO, DS4_HERE, "%.200s: cannot write: %s", w->partial,
                       strerror(errno));
}

/* The new name is only safe once its directory is on the disk. Some file systems refuse to
 * flush one; the file itself is whole by then, so that is no error. */
static void flush_directory_of(char *path) {
    char *slash = strrchr(path, '/');
    if (slash) slash[slash == path] = 0;
    int fd = open(slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)fsync(fd);
    close(fd);
}

ds4_status ds4_file_writer_finish(ds4_file_writer *w, ds4_err *err) {
    ds4_status st = DS4_OK;

    if (fflush(w->to) != 0 || fsync(fileno(w->to)) < 0)
        RAISE(DS4_ERR_IO, "%.200s: cannot write: %s", w->partial, strerror(errno));
    if (rename(w->partial, w->path) < 0)
        RAISE(DS4_ERR_IO, "%.200s: cannot rename to %.200s: %s", w->partial, w->path,
              strerror(errno));
    ds4_mem_free(w->partial);
    w->partial = NULL;
    flush_directory_of(w->path);
out:
    ds4_file_writer_abandon(w);
    return st;
}

void ds4_file_writer_abandon(ds4_file_writer *w) {
    if (!w) return;
    if (w->to) fclose(w->to);
    if (w->partial) unlink(w->partial);
    ds4_mem_free(w->partial);
    ds4_mem_free(w->path);
    ds4_mem_free(w);
}
