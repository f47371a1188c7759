/* engine/format/quant: the table, the codebook's invariants, and every decoder against known
 * answers or a computation in f64 from separately packed fields. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/float.h"
#include "engine/format/quant.h"

static uint32_t next_u32(uint64_t *s) {
    *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
    return (uint32_t)(*s >> 16);
}

static void put_u16(uint8_t *p, uint32_t v) { p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8); }

/* The Q8_K codes of model.md C.7 for X_0..X_255; the scale is 2/127. */
static int code_of_x(int i) {
    double x = (7919 * i % 257 - 128) / 64.0;
    return (int)nearbyint(63.5 * x);
}

static double dot_with_x(const float *y) {
    double sum = 0.0;
    for (int i = 0; i < 256; i++) sum += (double)y[i] * code_of_x(i);
    return sum / 63.5;
}

static void test_quant_table_finds_rows_by_id_and_name(void **state) {
    (void)state;
    assert_string_equal(ds4_quant_by_id(10)->name, "Q2_K");
    assert_int_equal(ds4_quant_by_name("IQ2_XXS")->id, 16);
    assert_int_equal(ds4_quant_by_id(DS4_QUANT_Q4_K)->n_bytes, 144);
    assert_null(ds4_quant_by_id(2));
    assert_null(ds4_quant_by_id(UINT32_MAX));
    assert_null(ds4_quant_by_name("q2_k"));
}

/* The facts of model.md 1.7.5 that verify a copy of the codebook. */
static void test_grid_invariants_hold(void **state) {
    static const int norm[] = {8, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96};
    static const int want[] = {1, 28, 8, 4, 89, 10, 25, 20, 21, 24, 26};
    int digits[3] = {0}, found[97] = {0}, first[3] = {0};
    uint32_t last_code = 0;
    (void)state;
    for (int i = 0; i < 256; i++) {
        uint32_t code = 0;
        int ones = 0, square = 0;
        for (int j = 0; j < 8; j++) {
            uint32_t mag = (uint32_t)(ds4_iq2xxs_grid[i] >> 8 * j & 255), d = (mag - 8) / 17;
            assert_true(mag == 8 || mag == 25 || mag == 43);
            digits[d]++, ones += d == 1, square += (int)((2 * d + 1) * (2 * d + 1));
            code |= d << 2 * j;
        }
        assert_int_equal(ones % 2, 0);
        assert_true(square <= 96);
        found[square]++;
        if (i) assert_true(ds4_iq2xxs_grid[i] > ds4_iq2xxs_grid[i - 1] && code > last_code);
        if (i < 3) first[i] = (int)code;
        last_code = code;
    }
    assert_int_equal(digits[0], 1127);
    assert_int_equal(digits[1], 556);
    assert_int_equal(digits[2], 365);
    for (int i = 0; i < 11; i++) assert_int_equal(found[norm[i]], want[i]);
    assert_true(first[0] == 0 && first[1] == 2 && first[2] == 5);
    assert_true(ds4_iq2xxs_grid[255] == 0x2b2b2b1908081908u);
}

/* The first 64 characters that sha256sum prints for n bytes. */
static void sha256(char hex[65], const void *p, size_t n) {
    char path[] = "/tmp/ds4-test-quant-XXXXXX", command[64];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, p, n), n);
    close(fd);
    snprintf(command, sizeof command, "sha256sum %s", path);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_int_equal(fread(hex, 1, 64, f), 64);
    hex[64] = 0;
    pclose(f);
    unlink(path);
}

/* model.md 1.7.5: as 2048 bytes, and as 256 packed codes. */
static void test_grid_has_the_published_digests(void **state) {
    (void)state;
    uint8_t word[2048], code[512];
    char hex[65];
    for (int i = 0; i < 256; i++) {
        uint32_t packed = 0;
        for (int j = 0; j < 8; j++) {
            uint32_t v = (uint32_t)(ds4_iq2xxs_grid[i] >> 8 * j & 255);
            word[8 * i + j] = (uint8_t)v;
            packed |= (v == 8 ? 0u : v == 25 ? 1u : 2u) << 2 * j;
        }
        put_u16(code + 2 * i, (uint16_t)packed);
    }
    sha256(hex, word, sizeof word);
    assert_string_equal(hex,
                        "05826b5d3e472a3a78f196be62ac78acf81df0f909626e12ab9fa2a5d490dd54");
    sha256(hex, code, sizeof code);
    assert_string_equal(hex,
                        "915952ebc4af8ddba8113583ca1316fc818843f7b825bbf1a25ae1c39bf0e16d");
    word[100] ^= 1;
    sha256(hex, word, sizeof word);
    assert_string_not_equal(hex,
                            "05826b5d3e472a3a78f196be62ac78acf81df0f909626e12ab9fa2a5d490dd54");
}

/* model.md C.8 */
static void test_iq2_xxs_known_block_decodes(void **state) {
    static const float want[8] = {-0.1953125f, -0.0625f, -0.0625f, -0.1953125f,
                                  -0.0625f,    0.0625f,  0.0625f,  -0.0625f};
    uint8_t block[66];
    float y[256];
    (void)state;
    put_u16(block, 0x2c00);
    for (int k = 0; k < 64; k++) block[2 + k] = (uint8_t)(37 * k + 11);
    static const uint32_t index[] = {11, 48, 85, 122}, sign[] = {31, 9, 39, 119};
    uint32_t signs = ds4_le32(block + 6);
    for (uint32_t k = 0; k < 4; k++) {
        assert_int_equal(block[2 + k], index[k]);
        assert_int_equal(signs >> 7 * k & 127, sign[k]);
    }
    assert_int_equal(signs >> 28, 0);
    ds4_iq2_xxs_decode(y, block, 1);
    for (int i = 0; i < 8; i++) assert_true(y[i] == want[i]);
    assert_true(fabs(dot_with_x(y) + 132.796875) < 2e-5);
}

/* model.md C.9 */
static void test_q2_k_known_block_decodes(void **state) {
    static const float want[6] = {0.328125f, 0, 0.109375f, 0.21875f, 0.328125f, 0};
    uint8_t block[84];
    float y[256];
    (void)state;
    for (int j = 0; j < 16; j++) block[j] = (uint8_t)(53 * j + 7);
    for (int k = 0; k < 64; k++) block[16 + k] = (uint8_t)(29 * k + 3);
    put_u16(block + 80, 0x2400), put_u16(block + 82, 0x2000);
    ds4_q2_k_decode(y, block, 1);
    for (int i = 0; i < 6; i++) assert_true(y[i] == want[i]);
    assert_true(fabs(dot_with_x(y) - 4.07923222) < 1e-6);
}

/* Fields chosen first and packed by the layout's text; the difference is exact in f64, so that
 * one rounding to f32 gives the bits that the stated order must give. */
static void test_q4_k_packed_fields_decode_to_the_rounded_difference(void **state) {
    uint64_t s = 88172645463325252u;
    (void)state;
    for (int round = 0; round < 200; round++) {
        uint8_t block[144] = {0};
        uint32_t sc[8], mn[8], code[256];
        uint16_t d = (uint16_t)(next_u32(&s) % 0x7c00), dm = (uint16_t)(next_u32(&s) % 0x7c00);
        float y[256];
        put_u16(block, d), put_u16(block + 2, dm);
        for (int j = 0; j < 8; j++) sc[j] = next_u32(&s) & 63, mn[j] = next_u32(&s) & 63;
        for (int j = 0; j < 4; j++) {
            block[4 + j] = (uint8_t)(sc[j] | (sc[j + 4] >> 4) << 6);
            block[8 + j] = (uint8_t)(mn[j] | (mn[j + 4] >> 4) << 6);
            block[12 + j] = (uint8_t)((sc[j + 4] & 15) | (mn[j + 4] & 15) << 4);
        }
        for (int e = 0; e < 256; e++) {
            code[e] = next_u32(&s) & 15;
            block[16 + 32 * (e / 64) + e % 32] |= (uint8_t)(code[e] << (e % 64 < 32 ? 0 : 4));
        }
        ds4_q4_k_decode(y, block, 1);
        for (int e = 0; e < 256; e++) {
            double a = (double)ds4_f16_to_f32(d) * sc[e / 32] * code[e];
            double m = (double)ds4_f16_to_f32(dm) * mn[e / 32];
            assert_int_equal(ds4_f32_bits(y[e]), ds4_f32_bits((float)(a - m)));
        }
    }
}

static void test_q2_k_random_blocks_decode_to_the_rounded_difference(void **state) {
    uint64_t s = 362436069521288629u;
    (void)state;
    for (int round = 0; round < 200; round++) {
        uint8_t block[84];
        float y[256];
        for (int i = 0; i < 84; i++) block[i] = (uint8_t)next_u32(&s);
        block[81] &= 0x3b, block[83] &= 0x3b; /* finite, positive */
        double d = (double)ds4_f16_to_f32(ds4_le16(block + 80));
        double dm = (double)ds4_f16_to_f32(ds4_le16(block + 82));
        ds4_q2_k_decode(y, block, 1);
        for (int e = 0; e < 256; e++) {
            int code = block[16 + 32 * (e / 128) + e % 32] >> 2 * (e % 128 / 32) & 3;
            double v = d * (block[e / 16] & 15) * code - dm * (block[e / 16] >> 4);
            assert_int_equal(ds4_f32_bits(y[e]), ds4_f32_bits((float)v));
        }
    }
}

/* Every value is exact, so that f64 must agree; the signs of an octet are even in number. */
static void test_iq2_xxs_random_blocks_decode_exactly(void **state) {
    uint64_t s = 1181783497276652981u;
    (void)state;
    for (int round = 0; round < 200; round++) {
        uint8_t block[66];
        float y[256];
        for (int i = 0; i < 66; i++) block[i] = (uint8_t)next_u32(&s);
        block[1] &= 0x7b;
        if (!block[0] && !block[1]) block[0] = 1;
        double d = (double)ds4_f16_to_f32(ds4_le16(block));
        ds4_iq2_xxs_decode(y, block, 1);
        for (int o = 0; o < 32; o++) {
            const uint8_t *group = block + 2 + 8 * (o / 4);
            double u = (group[7] >> 4) + 0.5, product = 1.0;
            for (int j = 0; j < 8; j++) {
                double mag = (double)(ds4_iq2xxs_grid[group[o % 4]] >> 8 * j & 255);
                int bit = 7 * (o % 4) + j;
                double sign = j == 7 ? product : group[4 + bit / 8] >> bit % 8 & 1 ? -1.0 : 1.0;
                product *= sign;
                assert_true((double)y[8 * o + j] == d * u * 0.25 * mag * sign);
            }
        }
    }
}

static void test_q8_0_blocks_decode_from_any_alignment(void **state) {
    uint8_t raw[1 + 2 * 34];
    float y[64];
    (void)state;
    for (int b = 0; b < 2; b++) {
        put_u16(raw + 1 + 34 * b, b ? 0xb800 : 0x3555); /* -0.5 and about a third */
        for (int e = 0; e < 32; e++) raw[3 + 34 * b + e] = (uint8_t)(e * 9 - 128);
    }
    ds4_q8_0_decode(y, raw + 1, 2);
    for (int e = 0; e < 32; e++) {
        int code = (int8_t)(uint8_t)(e * 9 - 128);
        assert_true((double)y[e] == (double)ds4_f16_to_f32(0x3555) * code);
        assert_true((double)y[32 + e] == -0.5 * code);
    }
}

static void test_plain_types_decode_element_by_element(void **state) {
    static const uint8_t raw[] = {0xff, 0, 0, 0x80, 0x3f, 0xfe, 0xff, 0xff, 0xff};
    float y[4];
    (void)state;
    ds4_f32_decode(y, raw + 1, 1);
    assert_true(y[0] == 1.0f);
    ds4_bf16_decode(y, raw + 3, 1);
    assert_true(y[0] == 1.0f);
    ds4_f16_decode(y, (const uint8_t[]){0, 0x3c, 1, 0x80}, 2);
    assert_true(y[0] == 1.0f && y[1] == -0x1p-24f);
    ds4_i32_decode(y, raw + 5, 1);
    assert_true(y[0] == -2.0f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quant_table_finds_rows_by_id_and_name),
        cmocka_unit_test(test_grid_invariants_hold),
        cmocka_unit_test(test_grid_has_the_published_digests),
        cmocka_unit_test(test_iq2_xxs_known_block_decodes),
        cmocka_unit_test(test_q2_k_known_block_decodes),
        cmocka_unit_test(test_q4_k_packed_fields_decode_to_the_rounded_difference),
        cmocka_unit_test(test_q2_k_random_blocks_decode_to_the_rounded_difference),
        cmocka_unit_test(test_iq2_xxs_random_blocks_decode_exactly),
        cmocka_unit_test(test_q8_0_blocks_decode_from_any_alignment),
        cmocka_unit_test(test_plain_types_decode_element_by_element),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
