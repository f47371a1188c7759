#ifndef DS4_FORMAT_GGUF_WRITE_H
#define DS4_FORMAT_GGUF_WRITE_H
/* GGUF version 3, written as a stream: metadata and the tensor directory first, then the data
 * section from its beginning to its end.
 *
 * A tensor names its own place in the data section, so tensors may overlap. Bytes go to
 * PATH.partial, which becomes PATH when everything is there and on the disk; a file under its
 * name is therefore complete, and a failure leaves none. Everything is little endian whatever
 * the machine. Source: model.md 1.1 to 1.3. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"
#include "engine/format/quant.h"

#define DS4_GGUF_ALIGN 32

typedef struct ds4_gguf_writer ds4_gguf_writer;

/* Owns: the caller frees *out; freeing before ds4_gguf_writer_end removes the partial file. */
ds4_status ds4_gguf_writer_new(ds4_gguf_writer **out, ds4_err *err);
void ds4_gguf_writer_free(ds4_gguf_writer *w);

/* The head, in memory. A failed put is remembered and reported by ds4_gguf_writer_begin (or
 * ds4_gguf_writer_head), so that a list of puts reads as a list. All metadata comes before the
 * first tensor. */
void ds4_gguf_put_u32(ds4_gguf_writer *w, const char *key, uint32_t v);
void ds4_gguf_put_u64(ds4_gguf_writer *w, const char *key, uint64_t v);
void ds4_gguf_put_f32(ds4_gguf_writer *w, const char *key, float v);
void ds4_gguf_put_bool(ds4_gguf_writer *w, const char *key, bool v);
void ds4_gguf_put_string(ds4_gguf_writer *w, const char *key, const char *v);
void ds4_gguf_put_array_u32(ds4_gguf_writer *w, const char *key, const uint32_t *v, uint64_t n);
void ds4_gguf_put_array_f32(ds4_gguf_writer *w, const char *key, const float *v, uint64_t n);
/* n strings follow by ds4_gguf_put_item. */
void ds4_gguf_put_strings(ds4_gguf_writer *w, const char *key, uint64_t n);
void ds4_gguf_put_item(ds4_gguf_writer *w, const char *s);
/* offset: in the data section, a multiple of DS4_GGUF_ALIGN. */
void ds4_gguf_put_tensor(ds4_gguf_writer *w, const char *name, const ds4_quant *q,
                         const uint64_t *ne, uint32_t n_dim, uint64_t offset);

/* Bytes before the data section, padding included. */
ds4_status ds4_gguf_writer_head(const ds4_gguf_writer *w, uint64_t *bytes, ds4_err *err);

/* Creates PATH.partial with the head. data_bytes, the length of the data section, is reserved
 * where the file system can, so that a full disk is found before the work is done.
 * Errors: DS4_ERR_IO; what a put remembered. */
ds4_status ds4_gguf_writer_begin(ds4_gguf_writer *w, const char *path, uint64_t data_bytes,
                                 ds4_err *err);
/* n bytes at `offset` of the data section, at or behind everything written so far; the gap is
 * filled with zeros. Errors: DS4_ERR_IO; DS4_ERR_INTERNAL for an offset that goes back or bytes
 * past data_bytes. */
ds4_status ds4_gguf_writer_data(ds4_gguf_writer *w, uint64_t offset, const void *p, size_t n,
                                ds4_err *err);
/* Fills up to data_bytes, flushes to the disk and gives the file its name. */
ds4_status ds4_gguf_writer_end(ds4_gguf_writer *w, ds4_err *err);

#endif
