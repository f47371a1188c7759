#ifndef DS4_BASE_FILE_H
#define DS4_BASE_FILE_H
/* Read-only mapped files. The bytes stay valid and unchanged until ds4_file_close, provided
 * that nobody shortens the file meanwhile. */
#include <stddef.h>

#include "engine/base/err.h"

typedef struct ds4_file ds4_file;

/* Maps a whole regular file.
 *
 * Errors: DS4_ERR_IO when it cannot be opened or mapped, or is a directory or a device;
 *         DS4_ERR_FORMAT when it is empty.
 * Owns:   the caller closes *out. */
ds4_status ds4_file_open(ds4_file **out, const char *path, ds4_err *err);
void ds4_file_close(ds4_file *f);

const void *ds4_file_data(const ds4_file *f);
size_t ds4_file_bytes(const ds4_file *f);

#endif
