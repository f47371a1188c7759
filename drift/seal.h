#ifndef DRIFT_SEAL_H
#define DRIFT_SEAL_H
/* The first 512 bytes of a run file, before the HDF5 part (a user block): a checksum of all
 * that follows, so that no damaged byte ever reaches the HDF5 parser.
 *
 *   0  16 bytes  "ds4-drift run 1\n"
 *  16   8 bytes  "complete", or "partial " while fixtures may still follow
 *  24   8 bytes  length of the sealed file in bytes, little-endian
 *  32  16 bytes  XXH3-128, canonical, of bytes 512 .. length - 1
 *  64  64 bytes  a copy of bytes 512 .. 575, the HDF5 superblock: opening a file for writing
 * marks it, so that a killed writer would leave it marked; recovery puts this copy back (all
 * else is zero) */
#include <stdbool.h>
#include <stddef.h>

#include "engine/base/err.h"

#define DRIFT_SEAL_BYTES 512

/* Seals the closed file at path over its present length and brings it to the disk. */
ds4_status drift_seal_write(const char *path, bool complete, ds4_err *err);
/* Turns a valid "partial " seal into "complete" without another pass over the file. */
ds4_status drift_seal_complete(const char *path, ds4_err *err);

/* DS4_ERR_IO when path cannot be read; DS4_ERR_FORMAT, in one line, when it is a directory, no
 * run file, not complete, truncated, longer than sealed, or when a byte differs. */
ds4_status drift_seal_check(const char *path, ds4_err *err);
/* The same for a partial file, whose writer may have been killed: bytes past the sealed length
 * are cut off once those before it are known to be intact. */
ds4_status drift_seal_recover(const char *path, ds4_err *err);

/* Brings the directory entry of path to the disk. */
ds4_status drift_seal_sync_dir(const char *path, ds4_err *err);

#endif
