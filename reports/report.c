#include "reports/report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "reports/out.h"

static const report_writer writer[] = {
#define WRITER(name, extension, what) {#name, extension, what, report_write_##name},
#include "reports/writers.def"
#undef WRITER
};

size_t report_n_writer(void) { return sizeof writer / sizeof *writer; }

const report_writer *report_writer_at(size_t i) {
    return i < report_n_writer() ? &writer[i] : NULL;
}

const report_writer *report_writer_find(const char *name) {
    for (size_t i = 0; name && i < report_n_writer(); i++)
        if (!strcmp(writer[i].name, name)) return &writer[i];
    return NULL;
}

typedef struct target {
    int fd, error;
} target;

static bool write_all(void *user, const char *p, size_t n) {
    target *t = user;
    while (n) {
        ssize_t k = write(t->fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return t->error = k ? errno : EIO, false;
        p += k, n -= (size_t)k;
    }
    return true;
}

static ds4_status fill(const drift_result *r, const report_writer *w, target *t,
                       const char *path, ds4_err *err) {
    ds4_status st = w->write(r, write_all, t, err);
    if (st == DS4_ERR_IO && t->error)
        return ds4_err_set(err, DS4_ERR_IO, DS4_HERE, "%s: cannot write the %s report: %s",
                           path, w->name, strerror(t->error));
    return st;
}

/* Pipes and devices cannot be replaced; they are written as they are. */
static ds4_status write_through(const drift_result *r, const report_writer *w, int fd,
                                const char *path, ds4_err *err) {
    target t = {fd, 0};
    return fill(r, w, &t, path, err);
}

/* Best effort: not every file system can sync a directory, and the file itself is safe. */
static void sync_dir(char *path) {
    char *slash = strrchr(path, '/');
    if (slash) slash[slash == path] = 0;
    int fd = open(slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)!fsync(fd);
    close(fd);
}

static ds4_status replace_file(const drift_result *r, const report_writer *w, const char *path,
                               ds4_err *err) {
    ds4_status st = DS4_OK;
    char *temp = NULL;
    bool made = false;
    target t = {-1, 0};
    size_t size = strlen(path) + 32;

    TRY(ds4_mem_alloc(&temp, size, 1, err));
    for (unsigned i = 0; i < 100 && t.fd < 0; i++) {
        snprintf(temp, size, "%s.%ld-%u.part", path, (long)getpid(), i);
        t.fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (t.fd < 0 && errno != EEXIST) break;
    }
    if (t.fd < 0) RAISE(DS4_ERR_IO, "%s: cannot create the file: %s", path, strerror(errno));
    made = true;
    TRY(fill(r, w, &t, path, err));
    if (fsync(t.fd)) RAISE(DS4_ERR_IO, "%s: cannot sync: %s", path, strerror(errno));
    int rc = close(t.fd);
    t.fd = -1;
    if (rc) RAISE(DS4_ERR_IO, "%s: cannot close: %s", path, strerror(errno));
    if (rename(temp, path)) RAISE(DS4_ERR_IO, "%s: cannot rename: %s", path, strerror(errno));
    made = false;
    sync_dir(temp);
out:
    if (t.fd >= 0) close(t.fd);
    if (made) unlink(temp);
    ds4_mem_free(temp);
    return st;
}

ds4_status report_write_file(const drift_result *r, const report_writer *w, const char *path,
                             ds4_err *err) {
    struct stat s;
    if (!strcmp(path, "-")) {
        if (fflush(stdout))
            return ds4_err_set(err, DS4_ERR_IO, DS4_HERE, "standard output: %s",
                               strerror(errno));
        return write_through(r, w, STDOUT_FILENO, "standard output", err);
    }
    if (stat(path, &s) || S_ISREG(s.st_mode)) return replace_file(r, w, path, err);
    if (S_ISDIR(s.st_mode))
        return ds4_err_set(err, DS4_ERR_IO, DS4_HERE, "%s: %s", path, strerror(EISDIR));

    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return ds4_err_set(err, DS4_ERR_IO, DS4_HERE, "%s: %s", path, strerror(errno));
    ds4_status st = write_through(r, w, fd, path, err);
    if (close(fd) && st == DS4_OK)
        st = ds4_err_set(err, DS4_ERR_IO, DS4_HERE, "%s: cannot close: %s", path,
                         strerror(errno));
    return st;
}
