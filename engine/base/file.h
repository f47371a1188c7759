#ifndef DS4_BASE_FILE_H
#define DS4_BASE_FILE_H
/* Read-only mapped files, and files written complete or not at all. Mapped bytes stay valid and
 * unchanged until ds4_file_close, provided that nobody shortens the file meanwhile. */
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"

typedef struct ds4_file ds4_file;

/* Maps a whole regular file.
 *
 * Errors: DS4_ERR_IO when it cannot be opened or mapped, or is a directory or a device;
 *         DS4_ERR_FORMAT when it is empty.
 * Owns:   the caller closes *out. */
ds4_status ds4_file_open(ds4_file **out, const char *path, ds4_err *err);
void ds4_file_close(ds4_file *f);
/* The same, but the bytes stay mapped until the process ends. */
void ds4_file_leave(ds4_file *f);

const void *ds4_file_data(const ds4_file *f);
size_t ds4_file_bytes(const ds4_file *f);

/* Writes PATH.partial, which takes the name PATH when it is complete and on the disk: PATH is
 * the old file or the whole new one.
 *
 * Errors: DS4_ERR_IO; DS4_ERR_USAGE where PATH is a device or a pipe, which a rename
 *         would replace.
 * Owns:   finish or abandon releases *out. */
typedef struct ds4_file_writer ds4_file_writer;
ds4_status ds4_file_writer_open(ds4_file_writer **out, const char *path, ds4_err *err);
/* Whether PATH could be written now: the errors of open, and DS4_ERR_IO for a folder. Nothing
 * is left behind. For work that writes its results at its end. */
ds4_status ds4_file_writer_check(const char *path, ds4_err *err);
/* Reserves n bytes in all, so that a full disk is found before the work is done; a file system
 * that cannot reserve lets the writes find out. */
ds4_status ds4_file_writer_reserve(ds4_file_writer *w, uint64_t n, ds4_err *err);
ds4_status ds4_file_writer_put(ds4_file_writer *w, const void *p, size_t n, ds4_err *err);
/* Releases w in every case; after an error PATH is as it was and PATH.partial is gone. */
ds4_status ds4_file_writer_finish(ds4_file_writer *w, ds4_err *err);
/* Removes PATH.partial. NULL is legal. */
void ds4_file_writer_abandon(ds4_file_writer *w);

#endif
