#include "engine/format/alphabet.h"

enum { NONE = -1 };

static bool is_direct(uint32_t c) {
    return (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255);
}

/* The byte that a character stands for, or NONE. The 68 bytes without a character of their own
 * number have, in order, 256 to 323. */
static int byte_of(uint32_t c) {
    if (c < 256) return is_direct(c) ? (int)c : NONE;
    c -= 256;
    if (c <= 32) return (int)c;
    if (c <= 66) return (int)(c - 33 + 127);
    return c == 67 ? 173 : NONE;
}

size_t ds4_char_bytes(const uint8_t *p, size_t left) {
    size_t n = *p < 0xc0 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : *p < 0xf8 ? 4 : 1;
    return n <= left ? n : 1;
}

/* All 256 characters have one or two bytes. */
size_t ds4_alphabet_read(uint8_t *dst, const uint8_t *p, size_t n, bool *clean) {
    size_t m = 0;
    *clean = true;
    for (size_t i = 0, k; i < n; i += k) {
        int b = NONE;
        k = ds4_char_bytes(p + i, n - i);
        if (p[i] < 0x80) b = byte_of(p[i]);
        else if (k == 2 && p[i] >= 0xc2 && (p[i + 1] & 0xc0) == 0x80)
            b = byte_of((p[i] & 0x1fu) << 6 | (p[i + 1] & 0x3fu));
        if (b == NONE) *clean = false;
        else dst[m++] = (uint8_t)b;
    }
    return m;
}

static uint32_t char_of(uint8_t b) {
    if (is_direct(b)) return b;
    if (b <= 32) return 256u + b;
    return b == 173 ? 256u + 67 : 256u + 33 + b - 127;
}

size_t ds4_alphabet_write(uint8_t dst[2], uint8_t byte) {
    uint32_t c = char_of(byte);
    if (c < 0x80) return dst[0] = (uint8_t)c, 1;
    dst[0] = (uint8_t)(0xc0 | c >> 6), dst[1] = (uint8_t)(0x80 | (c & 63u));
    return 2;
}
