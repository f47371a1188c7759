#ifndef DS4_BASE_ERR_H
#define DS4_BASE_ERR_H
/* Status codes and the error record.
 *
 * Every fallible function returns a ds4_status and takes a `ds4_err *err` last; err may be
 * NULL. The record is filled where the fault is known: it names the thing, the value found and
 * the value wanted. Nothing here prints, exits or aborts. */
#include <stdarg.h>

typedef enum ds4_status {
    DS4_OK = 0,
    DS4_ERR_USAGE,       /* a wrong option or value given by the user          exit 64 */
    DS4_ERR_FORMAT,      /* bytes that break their format                      exit 65 */
    DS4_ERR_IO,          /* the operating system refused a read or a write     exit 74 */
    DS4_ERR_MEMORY,      /* an allocation failed                               exit 74 */
    DS4_ERR_ENVIRONMENT, /* no device, or one that breaks strictness, is lost,
                            hangs or is too small                              exit 4  */
    DS4_ERR_COMPARE,     /* two things that cannot be compared                 exit 2  */
    DS4_ERR_CANCELLED,   /* interrupted by the user                            exit 74 */
    DS4_ERR_INTERNAL     /* a broken promise of this program                   exit 74 */
} ds4_status;

typedef struct ds4_err {
    ds4_status status;
    char message[512];
    const char *origin; /* "file.c:line", static storage */
} ds4_err;

/* Fills err (when not NULL) and returns st, so that a caller may `return ds4_err_set(...)`. */
ds4_status ds4_err_set(ds4_err *err, ds4_status st, const char *origin, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The exit code of design.md section 4 for a status; 0 for DS4_OK. The one place that maps. */
int ds4_err_exit_code(ds4_status st);

#define DS4_STR2(x) #x
#define DS4_STR(x) DS4_STR2(x)
#define DS4_HERE __FILE__ ":" DS4_STR(__LINE__)

/* For functions of the form: ds4_status st = DS4_OK; ... out: release; return st; */
#define TRY(call)                                                                              \
    do {                                                                                       \
        st = (call);                                                                           \
        if (st != DS4_OK) goto out;                                                            \
    } while (0)
#define RAISE(code, ...)                                                                       \
    do {                                                                                       \
        ds4_err_set(err, (code), DS4_HERE, __VA_ARGS__);                                       \
        st = (code); /* said here, so that the compiler sees that it is no success */          \
        goto out;                                                                              \
    } while (0)

#endif
