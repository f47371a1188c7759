#include "reports/out.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void report_out_init(report_out *o, bool (*emit)(void *user, const char *p, size_t n),
                     void *user) {
    o->emit = emit, o->user = user;
    o->failed = false, o->n = 0;
}

static void flush(report_out *o) {
    if (o->n && !o->failed) o->failed = !o->emit(o->user, o->buf, o->n);
    o->n = 0;
}

ds4_status report_out_fini(report_out *o, const char *name, ds4_err *err) {
    flush(o);
    if (!o->failed) return DS4_OK;
    return ds4_err_set(err, DS4_ERR_IO, DS4_HERE, "%s report: writing failed", name);
}

void report_put_mem(report_out *o, const char *p, size_t n) {
    while (n) {
        size_t take = sizeof o->buf - o->n;
        if (take > n) take = n;
        memcpy(o->buf + o->n, p, take);
        o->n += take, p += take, n -= take;
        if (o->n == sizeof o->buf) flush(o);
    }
}

void report_put(report_out *o, const char *s) {
    if (s) report_put_mem(o, s, strlen(s));
}

void report_putf(report_out *o, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text)
        o->failed = true; /* formats are ours and short; strings of others never come here */
    else report_put_mem(o, text, (size_t)n);
}

uint32_t report_utf8_next(const char **s) {
    const unsigned char *p = (const unsigned char *)*s;
    if (!*p) return 0;
    if (*p < 0x80) return ++*s, *p;
    unsigned n = *p >= 0xf0 && *p < 0xf5   ? 3
                 : *p >= 0xe0 && *p < 0xf0 ? 2
                 : *p >= 0xc2 && *p < 0xe0 ? 1
                                           : 0;
    uint32_t c = n ? (uint32_t)*p & (0x3fu >> n) : 0xfffd;
    for (unsigned i = 1; i <= n; i++) {
        if ((p[i] & 0xc0) != 0x80) return ++*s, 0xfffd;
        c = c << 6 | (p[i] & 0x3fu);
    }
    bool overlong = (n == 2 && c < 0x800) || (n == 3 && c < 0x10000);
    if (overlong || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return ++*s, 0xfffd;
    *s += n + 1;
    return c;
}

void report_put_utf8(report_out *o, uint32_t c) {
    char b[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (n == 1) {
        b[0] = (char)c;
    } else {
        for (size_t i = n - 1; i > 0; i--, c >>= 6) b[i] = (char)(0x80 | (c & 0x3f));
        b[0] = (char)(((0xf00u >> n) & 0xff) | c);
    }
    report_put_mem(o, b, n);
}

/* XML 1.0 has no way to write these, not even as references. */
static bool is_control(uint32_t c) {
    return (c < 0x20 && c != '\n' && c != '\t' && c != '\r') || (c >= 0x7f && c < 0xa0) ||
           c == 0xfffe || c == 0xffff;
}

/* Direction overrides would let a name rewrite the line it stands in. */
static bool is_bidi(uint32_t c) {
    return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

void report_put_xml(report_out *o, const char *s) {
    if (!s) return;
    for (uint32_t c; (c = report_utf8_next(&s)) != 0;) {
        switch (c) {
        case '&':
            report_put(o, "&amp;");
            break;
        case '<':
            report_put(o, "&lt;");
            break;
        case '>':
            report_put(o, "&gt;");
            break;
        case '"':
            report_put(o, "&quot;");
            break;
        case '\'':
            report_put(o, "&#39;");
            break;
        default:
            report_put_utf8(o, is_control(c) || is_bidi(c) ? 0xfffd : c);
        }
    }
}

void report_put_json(report_out *o, const char *s) {
    report_put(o, "\"");
    for (uint32_t c; s && (c = report_utf8_next(&s)) != 0;) {
        bool plain = c >= 0x20 && c < 0x7f && !strchr("\"\\<>&", (int)c);
        if (plain || (c >= 0xa0 && c != 0x2028 && c != 0x2029)) report_put_utf8(o, c);
        else report_putf(o, "\\u%04x", (unsigned)c);
    }
    report_put(o, "\"");
}

void report_put_csv(report_out *o, const char *s) {
    if (!s) return;
    bool quote = strpbrk(s, ",\"\r\n") != NULL;
    if (quote) report_put(o, "\"");
    for (uint32_t c; (c = report_utf8_next(&s)) != 0;) {
        if (c == '"') report_put(o, "\"");
        report_put_utf8(o, c);
    }
    if (quote) report_put(o, "\"");
}

void report_put_md(report_out *o, const char *s) {
    for (uint32_t c; s && (c = report_utf8_next(&s)) != 0;) {
        if (c == '<') report_put(o, "&lt;");
        else if (c == '>') report_put(o, "&gt;");
        else if (c == '&') report_put(o, "&amp;");
        else if (c == '\n' || c == '\r' || c == '\t') report_put(o, " ");
        else {
            if (c < 0x7f && strchr("\\|`*_[]#~!@", (int)c)) report_put(o, "\\");
            report_put_utf8(o, is_control(c) || is_bidi(c) ? 0xfffd : c);
        }
    }
}

void report_put_ascii(report_out *o, const char *s, size_t max) {
    if (!s) return;
    size_t n = 0;
    for (const char *p = s; report_utf8_next(&p);) n++;
    bool cut = n > max;
    for (size_t i = 0; i < (cut && max > 3 ? max - 3 : n < max ? n : max); i++) {
        uint32_t c = report_utf8_next(&s);
        char b = c >= 0x20 && c < 0x7f ? (char)c : c == '\n' || c == '\t' ? ' ' : '?';
        report_put_mem(o, &b, 1);
    }
    if (cut && max > 3) report_put(o, "...");
}

const char *report_num(char buf[32], double v, int digits) {
    if (isnan(v)) buf[0] = 0;
    else if (isinf(v)) strcpy(buf, v < 0 ? "-inf" : "inf");
    else snprintf(buf, 32, "%.*g", digits, v);
    return buf;
}

void report_put_num(report_out *o, double v, int digits) {
    char buf[32];
    report_put(o, report_num(buf, v, digits));
}

const char *report_state_text(drift_tensor_state s) {
    static const char *const text[] = {[DRIFT_TENSOR_SAME] = "same",
                                       [DRIFT_TENSOR_DIFFERENT] = "different",
                                       [DRIFT_TENSOR_MISSING_A] = "missing_a",
                                       [DRIFT_TENSOR_MISSING_B] = "missing_b",
                                       [DRIFT_TENSOR_UNMEASURED] = "unmeasured"};
    return text[s];
}

const char *report_toggle_text(drift_toggle_state s) {
    static const char *const text[] = {[DRIFT_TOGGLE_GUILTY] = "guilty",
                                       [DRIFT_TOGGLE_CLEARED] = "cleared",
                                       [DRIFT_TOGGLE_NOT_EXERCISED] = "not exercised",
                                       [DRIFT_TOGGLE_UNTESTED] = "untested"};
    return text[s];
}

bool report_str_eq(const char *a, const char *b) { return !strcmp(a ? a : "", b ? b : ""); }

const drift_logits *report_logits_of(const drift_result *r, const char *fixture) {
    for (size_t i = 0; i < r->n_logits; i++)
        if (report_str_eq(r->logits[i].fixture, fixture)) return &r->logits[i];
    return NULL;
}

const drift_tensor *report_first_of(const drift_result *r, const drift_fixture *f) {
    return f->first >= 0 && (uint64_t)f->first < r->n_tensor ? &r->tensor[f->first] : NULL;
}

double report_badness(const drift_tensor *t) {
    if (t->state == DRIFT_TENSOR_SAME) return 0;
    if (t->state != DRIFT_TENSOR_DIFFERENT || t->n_bad_differs) return HUGE_VAL;
    if (!isnan(t->nrmse)) return t->nrmse;
    return isnan(t->rms) ? 0x1p-100 : t->rms;
}
