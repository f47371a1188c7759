#include "engine/base/near.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { LONGEST = 63 };

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Levenshtein's distance by one row of his table. */
static size_t distance(const char *a, size_t n, const char *b, size_t m) {
    size_t row[LONGEST + 1];
    for (size_t j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            size_t cost = corner + !same;
            corner = row[j];
            row[j] = least(cost, 1 + least(row[j], row[j - 1]));
        }
    }
    return row[m];
}

void ds4_near_try(ds4_near *n, const char *name) {
    size_t len = strlen(n->word), m = strlen(name), most = len / 3 > 2 ? len / 3 : 2;
    if (len > LONGEST || m > LONGEST) return;
    size_t d = distance(n->word, len, name, m);
    if (d > most || d >= len || (n->best && d >= n->distance)) return;
    n->best = name, n->distance = d;
}

const char *ds4_near_hint(const ds4_near *n) {
    static _Thread_local char text[LONGEST + 32];
    if (!n->best) return "";
    snprintf(text, sizeof text, "; the nearest is %s", n->best);
    return text;
}
