/* noise.c -- the system's counters of processor time before and after: what was busy and was not us. */
#include "noise.h"

#include <math.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const double quiet_cores = 0.05, quiet_spread = 0.05;

/* Of all cores together since the system started; NaN without /proc/stat. */
static void system_seconds(double *busy, double *stolen) {
    unsigned long long user, nice, system, idle, wait, irq, softirq, steal;
    double tick = 1.0 / (double)sysconf(_SC_CLK_TCK);
    FILE *f = fopen("/proc/stat", "r");
    *busy = *stolen = NAN;
    if (!f)
        return;
    if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &wait, &irq, &softirq, &steal) == 8) {
        *busy = (double)(user + nice + system + irq + softirq) * tick;
        *stolen = (double)steal * tick;
    }
    fclose(f);
}

static double own_seconds(int64_t *forced_switches) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    *forced_switches = u.ru_nivcsw;
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void read_processor(char *dst, size_t size) {
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    *dst = 0;
    while (f && !*dst && fgets(line, sizeof line, f)) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !value)
            continue;
        value[strcspn(value, "\n")] = 0;
        snprintf(dst, size, "%s", value + 1 + strspn(value + 1, " "));
    }
    if (f)
        fclose(f);
}

void gm_noise_begin(gm_noise *n) {
    *n = (gm_noise){.cores = (int)sysconf(_SC_NPROCESSORS_ONLN), .begin_s = gm_seconds()};
    read_processor(n->processor, sizeof n->processor);
    n->begin_own_s = own_seconds(&n->forced_switches);
    system_seconds(&n->begin_busy_s, &n->begin_stolen_s);
}

void gm_noise_end(gm_noise *n) {
    double busy, stolen;
    int64_t switches;
    n->seconds = gm_seconds() - n->begin_s;
    system_seconds(&busy, &stolen);
    double own = own_seconds(&switches) - n->begin_own_s;
    n->forced_switches = switches - n->forced_switches;
    n->other_cores = fmax(0, busy - n->begin_busy_s - own) / n->seconds;
    n->stolen_cores = (stolen - n->begin_stolen_s) / n->seconds;
    if (isnan(busy))
        n->other_cores = n->stolen_cores = NAN;
}

static json_t *number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

json_t *gm_noise_json(const gm_noise *n, const json_t *lines) {
    char verdict[320];
    size_t i, unsteady = 0;
    const json_t *line;
    json_array_foreach(lines, i, line) {
        double median = json_number_value(json_object_get(line, "median_s"));
        unsteady += !(json_number_value(json_object_get(line, "mad_s")) <= quiet_spread * median);
    }
    bool busy = n->other_cores > quiet_cores || n->stolen_cores > quiet_cores;
    bool noisy = busy || unsteady * 10 > json_array_size(lines);
    int used = snprintf(verdict, sizeof verdict, noisy ? "the machine was noisy" : "the machine was quiet");
    if (isfinite(n->other_cores))
        used += snprintf(verdict + used, sizeof verdict - (size_t)used,
                         ": other programs had %.2f of %d cores, other virtual machines %.2f", n->other_cores, n->cores, n->stolen_cores);
    snprintf(verdict + used, sizeof verdict - (size_t)used, "; %zu of %zu lines spread over %.0f%%%s", unsteady, json_array_size(lines),
             100 * quiet_spread, noisy ? "; measure again when it is quiet" : "");
    return json_pack("{s:b, s:f, s:o, s:o, s:I, s:I, s:s}", "noisy", noisy, "seconds", n->seconds, "other_cores", number(n->other_cores),
                     "stolen_cores", number(n->stolen_cores), "forced_switches", (json_int_t)n->forced_switches, "unsteady_lines",
                     (json_int_t)unsteady, "verdict", verdict);
}
