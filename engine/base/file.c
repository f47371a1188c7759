#include "engine/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
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

const void *ds4_file_data(const ds4_file *f) { return f->data; }
size_t ds4_file_bytes(const ds4_file *f) { return f->n; }
