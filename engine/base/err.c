#include "engine/base/err.h"

#include <stdio.h>

ds4_status ds4_err_set(ds4_err *err, ds4_status st, const char *origin, const char *fmt, ...) {
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->message, sizeof err->message, fmt, ap);
        va_end(ap);
        /* One fault is one line, whatever bytes a hostile file put into a name. */
        for (char *p = err->message; *p; p++)
            if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
        err->status = st;
        err->origin = origin;
    }
    return st;
}

int ds4_err_exit_code(ds4_status st) {
    static const int code[] = {
        [DS4_OK] = 0,          [DS4_ERR_USAGE] = 64,     [DS4_ERR_FORMAT] = 65,
        [DS4_ERR_IO] = 74,     [DS4_ERR_MEMORY] = 74,    [DS4_ERR_ENVIRONMENT] = 4,
        [DS4_ERR_COMPARE] = 2, [DS4_ERR_CANCELLED] = 74, [DS4_ERR_INTERNAL] = 74,
    };
    return code[st];
}
