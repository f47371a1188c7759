#ifndef DS4_FORMAT_ALPHABET_H
#define DS4_FORMAT_ALPHABET_H
/* The printable alphabet of byte-level vocabularies: 256 characters, one for each byte, in
 * which the texts of tokens and merges are written. Source: model.md 5.1. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the UTF-8 character at p: from the lead byte; 1 where that is no lead byte or too
 * few bytes are left. left is at least 1. */
size_t ds4_char_bytes(const uint8_t *p, size_t left);

/* Decodes a text of the alphabet into at most n bytes and returns how many; *clean is false
 * when a character outside the alphabet was dropped. */
size_t ds4_alphabet_read(uint8_t *dst, const uint8_t *p, size_t n, bool *clean);

/* The character of a byte as UTF-8: writes one or two bytes, returns how many. */
size_t ds4_alphabet_write(uint8_t dst[2], uint8_t byte);

#endif
