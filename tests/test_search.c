/* drift/search.h against planted causes: the oracle fails when the toggles that are on hold all
 * members of at least one planted set. Disjoint sets must come back exactly, each 1-minimal; no
 * subset is ever asked twice; every run ends, also with an oracle that contradicts itself. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drift/search.h"
#include "engine/base/mem.h"
#include "tests/support.h"

enum { MAX_N = 516, MAX_SET = 5, MAX_MEMBER = 4 };

typedef struct planted {
    size_t n_set, n_member[MAX_SET], member[MAX_SET][MAX_MEMBER];
    uint64_t *asked; /* a hash of every subset asked for */
    size_t n_asked, cap;
    bool repeated;
    bool noisy; /* answers by chance */
    uint64_t rng;
    size_t stop_at; /* this trial is cancelled; 0: none */
} planted;

static uint64_t next(uint64_t *s) {
    *s += 0x9e3779b97f4a7c15u;
    uint64_t z = (*s ^ *s >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static bool fails_on(const planted *p, const uint8_t *on) {
    for (size_t s = 0; s < p->n_set; s++) {
        size_t have = 0;
        for (size_t i = 0; i < p->n_member[s]; i++) have += on[p->member[s][i]] != 0;
        if (have == p->n_member[s]) return true;
    }
    return false;
}

static ds4_status ask(void *user, const uint8_t *on, size_t n, const char *purpose, bool *fails,
                      ds4_err *err) {
    planted *p = user;
    uint64_t h = 0xcbf29ce484222325u;
    assert_non_null(purpose);
    for (size_t i = 0; i < n; i++) h = (h ^ (on[i] != 0)) * 0x100000001b3u;
    for (size_t i = 0; i < p->n_asked; i++) p->repeated = p->repeated || p->asked[i] == h;
    if (p->n_asked == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 256;
        p->asked = realloc(p->asked, p->cap * sizeof *p->asked);
    }
    p->asked[p->n_asked++] = h;
    if (p->n_asked == p->stop_at)
        return ds4_err_set(err, DS4_ERR_CANCELLED, DS4_HERE, "trial %zu stopped", p->n_asked);
    *fails = p->noisy ? next(&p->rng) & 1 : fails_on(p, on);
    return DS4_OK;
}

static void forget(planted *p) {
    free(p->asked);
    p->asked = NULL, p->n_asked = p->cap = 0, p->repeated = false;
}

/* ---- one search ---- */

typedef struct found {
    uint32_t group[MAX_N], n_group;
    size_t n_trial, n_remembered;
} found;

static found search_all(planted *p, size_t n) {
    drift_search *s = NULL;
    ds4_err err;
    found f;
    uint8_t universe[MAX_N];

    memset(universe, 1, sizeof universe);
    test_ok(drift_search_new(&s, n, (drift_oracle){ask, p}, &err), &err);
    test_ok(drift_search_all(s, universe, f.group, &f.n_group, &err), &err);
    f.n_trial = drift_search_n_trial(s), f.n_remembered = drift_search_n_remembered(s);
    drift_search_free(s);
    return f;
}

/* Every planted set is one group and nothing else is in a group. */
static bool is_exact(const planted *p, const found *f, size_t n) {
    size_t n_in = 0, n_planted = 0;
    for (size_t i = 0; i < n; i++) n_in += f->group[i] != 0;
    for (size_t s = 0; s < p->n_set; s++) {
        uint32_t g = f->group[p->member[s][0]];
        for (size_t i = 0; i < p->n_member[s]; i++)
            if (!g || f->group[p->member[s][i]] != g) return false;
        n_planted += p->n_member[s];
    }
    return f->n_group == p->n_set && n_in == n_planted;
}

/* Every group fails, and passes without any one of its members. */
static bool is_minimal(const planted *p, const found *f, size_t n) {
    for (uint32_t g = 1; g <= f->n_group; g++) {
        uint8_t on[MAX_N];
        for (size_t i = 0; i < n; i++) on[i] = f->group[i] == g;
        if (!fails_on(p, on)) return false;
        for (size_t i = 0; i < n; i++) {
            if (!on[i]) continue;
            on[i] = 0;
            if (fails_on(p, on)) return false;
            on[i] = 1;
        }
    }
    return true;
}

static void check(planted *p, size_t n, const char *what) {
    found f = search_all(p, n);
    bool ok = is_exact(p, &f, n) && is_minimal(p, &f, n) && f.n_trial == p->n_asked &&
              f.n_trial > 0 && !p->repeated;
    if (!ok)
        fail_msg("%s, %zu toggles, %zu planted: %u groups, %zu trials (%zu asked), repeats %d",
                 what, n, p->n_set, f.n_group, f.n_trial, p->n_asked, p->repeated);
    print_message("  %-28s %3zu toggles: %4zu trials, %3zu from memory\n", what, n, f.n_trial,
                  f.n_remembered);
    forget(p);
}

/* ---- planted causes ---- */

static void test_search_finds_one_culprit(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 7, 64, 65, 516};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t at = 0; at < sizes[i]; at += sizes[i] / 3 + 1) {
            planted p = {.n_set = 1, .n_member = {1}, .member = {{at}}};
            check(&p, sizes[i], "one culprit");
        }
}

static void test_search_finds_independent_and_interacting(void **state) {
    (void)state;
    planted three = {.n_set = 3, .n_member = {1, 1, 1}, .member = {{0}, {300}, {515}}};
    planted pair = {.n_set = 1, .n_member = {2}, .member = {{17, 490}}};
    planted mixed = {.n_set = 2, .n_member = {2, 1}, .member = {{3, 258}, {257}}};
    planted four = {.n_set = 1, .n_member = {4}, .member = {{0, 1, 257, 515}}};
    check(&three, 516, "three independent");
    check(&pair, 516, "an interacting pair");
    check(&mixed, 516, "a pair and a single");
    check(&four, 516, "four that interact");
}

static void test_search_nothing_takes_one_trial(void **state) {
    (void)state;
    planted p = {0};
    found f = search_all(&p, 516);
    assert_int_equal(f.n_group, 0);
    assert_int_equal(f.n_trial, 1);
    for (size_t i = 0; i < 516; i++) assert_int_equal(f.group[i], 0);
    forget(&p);
}

/* Every toggle a culprit, and one set of every toggle. */
static void test_search_everything_is_found(void **state) {
    (void)state;
    planted all = {.n_set = 4, .n_member = {1, 1, 1, 1}, .member = {{0}, {1}, {2}, {3}}};
    planted together = {.n_set = 1, .n_member = {4}, .member = {{0, 1, 2, 3}}};
    check(&all, 4, "everything, one by one");
    check(&together, 4, "everything, together");
}

static planted random_planted(uint64_t *rng, size_t n) {
    planted p = {.n_set = next(rng) % (MAX_SET + 1)};
    bool taken[MAX_N] = {false};
    size_t left = n;
    for (size_t s = 0; s < p.n_set; s++) {
        p.n_member[s] = 1 + next(rng) % MAX_MEMBER;
        if (left <= p.n_member[s]) {
            p.n_set = s;
            break;
        }
        for (size_t i = 0; i < p.n_member[s]; i++) {
            size_t at;
            do at = next(rng) % n;
            while (taken[at]);
            taken[at] = true, p.member[s][i] = at, left--;
        }
    }
    return p;
}

static void test_search_random_sets_come_back_exactly(void **state) {
    (void)state;
    uint64_t rng = 7;
    for (int i = 0; i < 40; i++) {
        size_t n = 1 + next(&rng) % MAX_N;
        planted p = random_planted(&rng, n);
        check(&p, n, "random disjoint sets");
    }
}

/* Sets that share a member: one of them is found, and what is found is minimal. */
static void test_search_overlapping_sets_stay_minimal(void **state) {
    (void)state;
    planted p = {.n_set = 2, .n_member = {2, 2}, .member = {{10, 20}, {20, 30}}};
    found f = search_all(&p, 64);
    assert_int_equal(f.n_group, 1);
    assert_true(is_minimal(&p, &f, 64));
    assert_false(p.repeated);
    forget(&p);
}

/* ---- the checks can fail ---- */

static void test_search_wrong_answer_is_noticed(void **state) {
    (void)state;
    planted p = {.n_set = 1, .n_member = {2}, .member = {{5, 9}}};
    found f = search_all(&p, 32);
    assert_true(is_exact(&p, &f, 32) && is_minimal(&p, &f, 32));
    f.group[11] = 1; /* one toggle too many */
    assert_false(is_exact(&p, &f, 32));
    assert_false(is_minimal(&p, &f, 32));
    f.group[11] = f.group[9] = 0; /* one too few */
    assert_false(is_exact(&p, &f, 32));
    assert_false(is_minimal(&p, &f, 32));
    forget(&p);
}

/* ---- memory of trials ---- */

static void test_search_repeated_trial_is_remembered(void **state) {
    (void)state;
    planted p = {.n_set = 1, .n_member = {1}, .member = {{3}}};
    drift_search *s = NULL;
    ds4_err err;
    uint8_t on[8] = {0, 0, 0, 1};
    bool fails = false;

    test_ok(drift_search_new(&s, 8, (drift_oracle){ask, &p}, &err), &err);
    test_ok(drift_search_test(s, on, "first", &fails, &err), &err);
    assert_true(fails);
    p.n_set = 0; /* the oracle would now answer otherwise */
    test_ok(drift_search_test(s, on, "again", &fails, &err), &err);
    assert_true(fails);
    assert_int_equal(p.n_asked, 1);
    assert_int_equal(drift_search_n_trial(s), 1);
    assert_int_equal(drift_search_n_remembered(s), 1);
    on[0] = 1;
    test_ok(drift_search_test(s, on, "another", &fails, &err), &err);
    assert_false(fails);
    assert_int_equal(drift_search_n_trial(s), 2);
    drift_search_free(s);
    forget(&p);
}

/* ---- an oracle that is no function ---- */

static void test_search_noisy_oracle_ends(void **state) {
    (void)state;
    size_t most = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        size_t n = 1 + seed * 13 % 100;
        planted p = {.noisy = true, .rng = seed};
        found f = search_all(&p, n);
        assert_int_equal(f.n_trial, p.n_asked);
        assert_false(p.repeated);
        /* ddmin is quadratic at worst; at most n searches of it. */
        assert_true(f.n_trial <= n * (n * n + 3 * n) + 1);
        if (f.n_trial > most) most = f.n_trial;
        forget(&p);
    }
    print_message("  noisy oracle: at most %zu trials\n", most);
}

static void test_search_failing_oracle_is_passed_on(void **state) {
    (void)state;
    for (size_t stop = 1; stop < 12; stop++) {
        planted p = {.n_set = 1, .n_member = {2}, .member = {{1, 30}}, .stop_at = stop};
        drift_search *s = NULL;
        ds4_err err;
        uint8_t universe[64];
        uint32_t group[64], n_group;

        memset(universe, 1, sizeof universe);
        test_ok(drift_search_new(&s, 64, (drift_oracle){ask, &p}, &err), &err);
        assert_int_equal(drift_search_all(s, universe, group, &n_group, &err),
                         DS4_ERR_CANCELLED);
        assert_int_equal(p.n_asked, stop);
        drift_search_free(s);
        forget(&p);
    }
}

/* ---- memory ---- */

/* A whole search with the k-th allocation failing. */
static ds4_status search_with_failure(planted *p, long k, ds4_err *err) {
    ds4_status st = DS4_OK;
    drift_search *s = NULL;
    uint8_t universe[200];
    uint32_t group[200], n_group = 0;

    memset(universe, 1, sizeof universe);
    ds4_mem_fail_after(k);
    TRY(drift_search_new(&s, sizeof universe, (drift_oracle){ask, p}, err));
    TRY(drift_search_all(s, universe, group, &n_group, err));
    assert_int_equal(n_group, 2);
out:
    ds4_mem_fail_after(0);
    drift_search_free(s);
    return st;
}

/* Fails each allocation in turn until a search succeeds; returns how many there were. */
static long fail_each_allocation(void) {
    for (long k = 1;; k++) {
        planted p = {.n_set = 2, .n_member = {2, 1}, .member = {{3, 150}, {70}}};
        ds4_err err = {0};
        ds4_status st = search_with_failure(&p, k, &err);
        forget(&p);
        if (st == DS4_OK) return k - 1;
        assert_int_equal(st, DS4_ERR_MEMORY);
        assert_int_equal(err.status, DS4_ERR_MEMORY);
        assert_non_null(strstr(err.message, "out of memory"));
        assert_true(k < 100);
    }
}

/* Bytes in use by the heap, freed ones that it keeps apart (a few, always the same) included.
 * Under a sanitizer this is 0 and its leak check says the same. */
static size_t heap_bytes(void) { return mallinfo2().uordblks; }

static void test_search_failed_allocation_leaks_nothing(void **state) {
    (void)state;
    for (int i = 0; i < 8; i++) fail_each_allocation();
    size_t before = heap_bytes();
    long n = 0;
    for (int i = 0; i < 8; i++) n = fail_each_allocation();
    assert_true(n > 5); /* the search, two sets, the memory of trials, a set per group */
    assert_int_equal(heap_bytes(), before);
    void *leak = NULL; /* planted */
    assert_int_equal(ds4_mem_alloc(&leak, 4000, 1, NULL), DS4_OK);
    assert_true(heap_bytes() > before || !before);
    ds4_mem_free(leak);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search_finds_one_culprit),
        cmocka_unit_test(test_search_finds_independent_and_interacting),
        cmocka_unit_test(test_search_nothing_takes_one_trial),
        cmocka_unit_test(test_search_everything_is_found),
        cmocka_unit_test(test_search_random_sets_come_back_exactly),
        cmocka_unit_test(test_search_overlapping_sets_stay_minimal),
        cmocka_unit_test(test_search_wrong_answer_is_noticed),
        cmocka_unit_test(test_search_repeated_trial_is_remembered),
        cmocka_unit_test(test_search_noisy_oracle_ends),
        cmocka_unit_test(test_search_failing_oracle_is_passed_on),
        cmocka_unit_test(test_search_failed_allocation_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
