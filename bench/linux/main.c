/* SPDX-License-Identifier: MIT */
/*
 * Workloads for a guest that runs Linux: one static program for its initramfs.
 *
 *     pn-linux [-m] [-jN] NAME[:N[:BYTES]]...
 *     pn-linux [-m] time PROGRAM [ARG]...     the measured part is another program
 *     pn-linux list
 *
 * -m: mark the measured parts at the mark port (penumbra/mark.h), once the guest is idle; only
 * in a guest of penumbra's, as root. -jN: N processes do each of them at once; the time is from
 * before the first begins until the last has ended. One after another, each prints the lines of bench/workload.h with
 * its name behind "linux-":
 *
 *     workload: begin name=linux-fork n=300
 *     workload: time ns=N                                     of the measured part
 *     workload: end name=linux-fork ops=300 checksum=HEX
 *
 * Exit: 0; 1 a workload failed; 2 a bad argument, with one line.
 */
#define _GNU_SOURCE /* strchrnul */
#include "linux.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/workload.h"
#include "penumbra/mark.h"

#define N_MAX     (1ull << 40)
#define BYTES_MIN (1ull << 16)
#define BYTES_MAX (1ull << 32)

struct linux_workload {
    const char *name, *unit;
    uint64_t n, bytes;
    const char *doc;
    uint64_t (*run)(struct job *job);
};

static const struct linux_workload all[] = {
#define LINUX(name, unit, n, quick, bytes, quick_bytes, doc)                             \
    {#name, unit, n, bytes, doc, linux_##name},
#include "linux.inc"
};
#define COUNT (sizeof(all) / sizeof(all[0]))

#define AT_ONCE_MAX 64u

static bool marks;           /* the port may be used */
static unsigned at_once = 1; /* processes */

uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t measure_begin(void) {
    if (marks)
        outl(PN_MARK_VALUE(PN_MARK_PHASE, PN_PHASE_BEGIN), PN_MARK_PORT);
    return now_ns();
}

uint64_t measure_end(uint64_t begun) {
    uint64_t ns = now_ns() - begun;
    if (marks)
        outl(PN_MARK_VALUE(PN_MARK_PHASE, PN_PHASE_END), PN_MARK_PORT);
    return ns;
}

void die(const char *what) {
    printf(WORKLOAD_PREFIX "error: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- Arguments ---- */

static int usage(const char *arg, const char *what) {
    printf(WORKLOAD_PREFIX "error: %s: %s\n", arg, what);
    return 2;
}

/* Digits and K, M or G, up to ':' or the end. Return: what follows, or NULL. */
static const char *number(const char *text, uint64_t *v) {
    char *end;
    errno = 0;
    if (*text < '0' || *text > '9')
        return NULL;
    *v = strtoull(text, &end, 10);
    unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    if (shift)
        end++;
    if (errno || *v > UINT64_MAX >> shift || (*end && *end != ':'))
        return NULL;
    *v <<= shift;
    return end;
}

static const struct linux_workload *find(const char *arg, size_t size) {
    for (size_t i = 0; i < COUNT; i++)
        if (strlen(all[i].name) == size && !memcmp(all[i].name, arg, size))
            return &all[i];
    return NULL;
}

/* Return: 0, or the exit code after a line. */
static int parse(const char *arg, const struct linux_workload **out, struct job *job) {
    const char *p = strchrnul(arg, ':');
    *out = find(arg, (size_t)(p - arg));
    if (!*out)
        return usage(arg, "no such workload ('list' names them)");
    job->n = (*out)->n;
    job->bytes = (*out)->bytes;
    if (*p && (!(p = number(p + 1, &job->n)) || !job->n || job->n > N_MAX))
        return usage(arg, "how many is not a number from 1 to 1024G");
    if (*p && !job->bytes)
        return usage(arg, "this workload has no size");
    if (*p && (!(p = number(p + 1, &job->bytes)) || job->bytes < BYTES_MIN ||
               job->bytes > BYTES_MAX))
        return usage(arg, "its size is not a number from 64K to 4G");
    return *p ? usage(arg, "not NAME:N:BYTES") : 0;
}

/* ---- Running ---- */

/* In processes of their own. Return: ns from before the first to behind the last. Their checksums
 * are not told: they exit with 1 where they do not end well. */
static uint64_t run_at_once(const struct linux_workload *w, struct job *job) {
    uint64_t begun = measure_begin();
    bool marked = marks, failed = false;
    marks = false; /* of the whole alone */
    for (unsigned i = 0; i < at_once; i++) {
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (!child) {
            w->run(job);
            _exit(0);
        }
    }
    for (int status; wait(&status) > 0;)
        failed |= status != 0;
    marks = marked;
    if (failed) {
        errno = ECHILD;
        die("one of several processes");
    }
    return measure_end(begun);
}

static void run(const struct linux_workload *w, struct job *job) {
    printf(WORKLOAD_PREFIX "begin name=linux-%s n=%llu", w->name,
           (unsigned long long)job->n);
    if (w->bytes)
        printf(" bytes=%llu", (unsigned long long)job->bytes);
    putchar('\n');
    fflush(stdout); /* or a child would print it again */
    uint64_t ns = at_once > 1 ? run_at_once(w, job) : w->run(job);
    printf(WORKLOAD_PREFIX "time ns=%llu\n", (unsigned long long)ns);
    printf(WORKLOAD_PREFIX "end name=linux-%s ops=%llu checksum=%016llx\n", w->name,
           (unsigned long long)job->n, (unsigned long long)mix(mix(job->sum, 1), job->n));
    fflush(stdout);
}

/* Seconds since the boot, and seconds in which CPUs idled: proc_uptime(5). */
static bool uptime(double *up, double *idle) {
    FILE *f = fopen("/proc/uptime", "r");
    bool known = f && fscanf(f, "%lf %lf", up, idle) == 2;
    if (f)
        fclose(f);
    return known;
}

/* Newer kernels go on with their work when init has begun: Linux 6.12 tests its ciphers for
 * most of a second. It would be measured, too. Wait until the CPUs idle, 10 s at most. */
static void wait_until_idle(void) {
    const struct timespec step = {.tv_nsec = 100000000};
    double cpus = (double)sysconf(_SC_NPROCESSORS_ONLN), up[2], idle[2];
    for (unsigned i = 0; i < 100 && uptime(&up[0], &idle[0]); i++) {
        nanosleep(&step, NULL);
        if (!uptime(&up[1], &idle[1]) ||
            idle[1] - idle[0] >= 0.8 * cpus * (up[1] - up[0]))
            return;
    }
}

static int list(void) {
    for (size_t i = 0; i < COUNT; i++)
        printf("%-10s %s\n", all[i].name, all[i].doc);
    return 0;
}

/* The program, its end awaited, between the marks. No end mark for one that fails. Return: the
 * exit code. */
static int time_program(char **argv) {
    int status = 0;
    if (marks)
        wait_until_idle();
    fflush(stdout);
    uint64_t t = measure_begin();
    pid_t pid = fork();
    if (!pid) {
        execvp(argv[0], argv);
        die(argv[0]);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        die("fork");
    if (status)
        return 1;
    t = measure_end(t);
    printf(WORKLOAD_PREFIX "time ns=%llu\n", (unsigned long long)t);
    return 0;
}

int main(int argc, char **argv) {
    static char self[4096];
    if (argc == 2 && !strcmp(argv[1], "hello")) /* what exec and sh execute */
        return write(1, "hello\n", 6) != 6;     /* stdout is closed then, as in lmbench */
    if (argc == 2 && !strcmp(argv[1], "compile"))
        return linux_compile();
    if (argc == 2 && !strcmp(argv[1], "list"))
        return list();
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
        die("/proc/self/exe");
    int first = 1;
    if (argc > 1 && !strcmp(argv[1], "-m")) {
        if (ioperm(PN_MARK_PORT, 4, 1))
            die("the mark port");
        marks = true;
        first = 2;
    }
    if (first < argc && !strncmp(argv[first], "-j", 2)) {
        uint64_t n = 0;
        const char *end = number(argv[first] + 2, &n);
        if (!end || *end || !n || n > AT_ONCE_MAX)
            return usage(argv[first], "processes at once are a number from 1 to 64");
        at_once = (unsigned)n;
        first++;
    }
    if (first >= argc)
        return usage("pn-linux", "[-m] [-jN] NAME[:N[:BYTES]]..., time PROGRAM, or list");
    if (!strcmp(argv[first], "time") && first + 1 < argc)
        return time_program(argv + first + 1);
    for (int pass = 0; pass < 2; pass++) { /* all of the arguments before any work */
        if (pass && marks)
            wait_until_idle();
        for (int i = first; i < argc; i++) {
            const struct linux_workload *w;
            struct job job = {.self = self};
            int rc = parse(argv[i], &w, &job);
            if (rc)
                return rc;
            if (pass)
                run(w, &job);
        }
    }
    return 0;
}
