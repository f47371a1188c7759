#ifndef DS4_FORMAT_PIECES_H
#define DS4_FORMAT_PIECES_H
/* The piece rules that existing engines apply to a GGUF of this family, on raw bytes.
 * Source: model.md 5.3. */
#include <stddef.h>
#include <stdint.h>

/* The end of the piece that starts at i < n. */
size_t ds4_piece_end(const uint8_t *p, size_t i, size_t n);

#endif
