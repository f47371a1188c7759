#include "drift/cmd/bench_host.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOT_READABLE "not readable"

/* The first word of a file of the system. */
static bool word(char dst[32], const char *path) {
    FILE *f = fopen(path, "r");
    bool ok = f && fscanf(f, "%31s", dst) == 1;
    if (f) fclose(f);
    return ok;
}

static void read_clock(char mhz[32]) {
    static const char *const dir = "/sys/devices/system/cpu/cpu0/cpufreq/";
    char path[128], khz[32], governor[32];
    snprintf(path, sizeof path, "%sscaling_cur_freq", dir);
    bool ok = word(khz, path);
    snprintf(path, sizeof path, "%sscaling_governor", dir);
    if (ok && word(governor, path))
        snprintf(mhz, 32, "%.0f %.16s", strtod(khz, NULL) / 1000.0, governor);
    else snprintf(mhz, 32, NOT_READABLE);
}

/* Sum over the packages of Intel's and AMD's power caps. */
static void read_energy(bench_host *h) {
    char path[96], uj[32];
    h->energy_j = -1.0, h->energy_wrap_j = 0.0;
    for (int i = 0; i < 16; i++) {
        snprintf(path, sizeof path, "/sys/class/powercap/intel-rapl:%d/energy_uj", i);
        if (!word(uj, path)) continue;
        h->energy_j = (h->energy_j < 0.0 ? 0.0 : h->energy_j) + strtod(uj, NULL) * 1e-6;
        snprintf(path, sizeof path, "/sys/class/powercap/intel-rapl:%d/max_energy_range_uj", i);
        if (word(uj, path)) h->energy_wrap_j += strtod(uj, NULL) * 1e-6;
    }
}

void bench_host_read(bench_host *h) {
    if (!word(h->load, "/proc/loadavg")) snprintf(h->load, sizeof h->load, NOT_READABLE);
    read_clock(h->mhz);
    read_energy(h);
}

void bench_host_facts(json_t *fact, const bench_host *before, const bench_host *after) {
    char energy[32] = NOT_READABLE;
    double j = after->energy_j - before->energy_j;
    if (j < 0.0) j += after->energy_wrap_j;
    if (before->energy_j >= 0.0 && after->energy_j >= 0.0 && j >= 0.0)
        snprintf(energy, sizeof energy, "%.1f", j);
    json_object_set_new(fact, "load.before", json_string(before->load));
    json_object_set_new(fact, "load.after", json_string(after->load));
    json_object_set_new(fact, "cpu_mhz.before", json_string(before->mhz));
    json_object_set_new(fact, "cpu_mhz.after", json_string(after->mhz));
    json_object_set_new(fact, "energy_j", json_string(energy));
}
