#ifndef DS4_TESTS_SUPPORT_H
#define DS4_TESTS_SUPPORT_H
/* What several test programs share. Tests run from the root of the checkout. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/ds4.h"
#include "engine/vk/vk.h"

/* Fails the test with the message of err unless st is DS4_OK. */
void test_ok(ds4_status st, const ds4_err *err);
/* The bytes of a file with a NUL behind them. Owns: the caller frees. */
char *test_read_file(const char *path, size_t *n);
/* Ids as text. Owns: the caller frees *out. */
uint32_t test_read_tokens(const char *path, int32_t **out);
/* Opens a model with default options. Owns: the caller closes. */
ds4_engine *test_engine(const char *engine, const char *model);
/* The first fit device, with the validation layers when DS4_VALIDATION=1 (tests/run.sh sets
 * it). */
ds4_vk_options test_vk_options(void);
/* REQUIRE_GPU=1: a missing Vulkan device is a failure, not a skip. */
bool test_needs_device(void);
/* True when a Vulkan device is there; else prints why and, with REQUIRE_GPU=1, fails the test.
 */
bool test_has_device(void);

#endif
