/* SPDX-License-Identifier: MIT */
/*
 * What the stages of a memory access cost this host: medians of many rounds, warm, in nanoseconds and,
 * where the host counts them (perf_event_open), in cycles of the core, under each MMU of ours.
 *
 * A round is up to some thousand operations between two looks at the clock. What a stage needs is
 * brought about before it, and is not timed. The figures are of the MMU called as a library, so they
 * hold no translated code, and no trampoline.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/harness/rank.h"
#include "bench/micro/micro.h"

#define ROUNDS_MAX  RANK_MAX
#define ROUNDS      101u
#define WARM_ROUNDS 5u

static const struct {
    const char *name;
    enum pn_mmu_kind kind;
} mmus[] = {{"shadow", PN_MMU_SHADOW}, {"tdp", PN_MMU_TDP}};
#define MMUS (sizeof(mmus) / sizeof(mmus[0]))

struct figure {
    bool known;
    struct interval ns,
        cycles; /* of one operation; cycles.median 0: the host does not tell */
};

static int counter = -1;

/* This thread's cycles in user space. Return: -1: the host does not count them. */
static int open_counter(void) {
    struct perf_event_attr a = {.type = PERF_TYPE_HARDWARE,
                                .size = sizeof(a),
                                .config = PERF_COUNT_HW_CPU_CYCLES,
                                .exclude_kernel = 1,
                                .exclude_hv = 1};
    return (int)syscall(SYS_perf_event_open, &a, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static uint64_t cycles_now(void) {
    uint64_t v = 0;
    return counter >= 0 && read(counter, &v, sizeof(v)) == sizeof(v) ? v : 0;
}

/* One round of fn: its time and cycles per operation. Return: whether they are what the stage's name
 * says. */
static bool time_of(struct rig *r, unsigned (*fn)(struct rig *), double *ns,
                    double *cycles) {
    uint64_t c = cycles_now(), begin = host_ns();
    unsigned ops = fn(r);
    uint64_t end = host_ns(), d = cycles_now();
    if (!ops)
        return false;
    *ns = (double)(end - begin) / ops;
    *cycles = (double)(d - c) / ops;
    return true;
}

static bool one_round(struct rig *r, const struct stage *s, double *ns, double *cycles) {
    double less_ns = 0, less_cycles = 0;
    if (s->prepare)
        s->prepare(r);
    if (!time_of(r, s->run, ns, cycles))
        return false;
    if (s->beside) {
        s->prepare_beside(r);
        if (!time_of(r, s->beside, &less_ns, &less_cycles))
            return false;
    }
    *ns -= less_ns;
    *cycles -= less_cycles;
    return true;
}

/* Return: 0; -errno: there is no rig; 1: some round was not what it should be. */
static int measure(const struct stage *s, enum pn_mmu_kind kind, unsigned rounds,
                   struct figure *f) {
    static double ns[ROUNDS_MAX], cycles[ROUNDS_MAX];
    struct rig r;
    int rc = rig_create(&r, kind, s->options, s->cpu);
    if (rc)
        return rc;
    for (unsigned i = 0; i < WARM_ROUNDS + rounds && !rc; i++) {
        unsigned at = i < WARM_ROUNDS ? 0 : i - WARM_ROUNDS;
        rc = !one_round(&r, s, &ns[at], &cycles[at]);
    }
    rig_destroy(&r);
    if (rc)
        return rc;
    f->known = true;
    f->ns = rank_one(ns, rounds);
    f->cycles = rank_one(cycles, rounds);
    return 0;
}

/* ---- The report ---- */

static void print_head(void) {
    printf("%-16s %-7s %9s %19s %9s %7s %10s\n", "stage", "mmu", "ns", "95% interval",
           "cycles", "goal", "published");
}

/* Return: whether a goal is missed. */
static bool print_row(const struct stage *s, const char *mmu, const struct figure *f) {
    char interval[40], cycles[24] = "-", goal[24] = "-", published[24] = "-";
    bool late = s->goal_ns > 0 && f->ns.median > s->goal_ns;
    snprintf(interval, sizeof(interval), "%.1f-%.1f", f->ns.low, f->ns.high);
    if (f->cycles.median > 0)
        snprintf(cycles, sizeof(cycles), "%.0f", f->cycles.median);
    if (s->goal_ns > 0)
        snprintf(goal, sizeof(goal), "%.0f", s->goal_ns);
    if (s->published > 0)
        snprintf(published, sizeof(published), "%.0f", s->published);
    printf("%-16s %-7s %9.1f %19s %9s %7s %10s%s\n", s->name, mmu, f->ns.median, interval,
           cycles, goal, published, late ? "  above the goal" : "");
    return late;
}

static json_t *interval_json(const struct interval *i) {
    if (i->median <= 0)
        return json_null();
    return json_pack("{s:f, s:o, s:o}", "median", i->median, "low",
                     i->known ? json_real(i->low) : json_null(), "high",
                     i->known ? json_real(i->high) : json_null());
}

static json_t *row_json(const struct stage *s, const char *mmu, const struct figure *f) {
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:s?}", "stage", s->name, "mmu", mmu, "what",
        s->what, "ns", interval_json(&f->ns), "cycles", interval_json(&f->cycles),
        "goal_ns", s->goal_ns > 0 ? json_real(s->goal_ns) : json_null(),
        "published_cycles", s->published > 0 ? json_real(s->published) : json_null(),
        "source", s->source);
}

static json_t *host_json(const char *penumbra) {
    char command[512];
    snprintf(command, sizeof(command), "'%s' host --json", penumbra);
    FILE *f = popen(command, "r");
    json_t *j = f ? json_loadf(f, 0, NULL) : NULL;
    if (f)
        pclose(f);
    return j ? j : json_null();
}

static int usage(void) {
    fprintf(stderr,
            "usage: micro [--rounds N] [--only STAGE] [--json FILE] [--penumbra PROGRAM] "
            "[--check]\n  --penumbra: who describes the host in FILE\n"
            "  --check: exit code 1 when a goal is missed\n");
    return 2;
}

struct command {
    const char *json, *only, *penumbra;
    unsigned long rounds;
    bool check;
};

static bool parse(struct command *c, int argc, char **argv) {
    static const struct option options[] = {
        {"rounds", 1, 0, 'r'},   {"only", 1, 0, 'o'},  {"json", 1, 0, 'j'},
        {"penumbra", 1, 0, 'p'}, {"check", 0, 0, 'c'}, {0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'r')
            c->rounds = strtoul(optarg, NULL, 10);
        else if (o == 'o')
            c->only = optarg;
        else if (o == 'j')
            c->json = optarg;
        else if (o == 'p')
            c->penumbra = optarg;
        else if (o == 'c')
            c->check = true;
        else
            return false;
    }
    return optind == argc && c->rounds && c->rounds <= ROUNDS_MAX;
}

/* Every stage under every MMU that has it. Return: 0; 1 after a line: no figure; *late: some goal is
 * missed. */
static int measure_all(const struct command *c, json_t *rows, bool *late) {
    for (unsigned i = 0; i < stage_count; i++)
        for (unsigned m = 0; m < MMUS; m++) {
            const struct stage *s = &stages[i];
            struct figure f = {.known = false};
            if (!(s->kinds >> mmus[m].kind & 1) || (c->only && strcmp(c->only, s->name)))
                continue;
            int rc = measure(s, mmus[m].kind, (unsigned)c->rounds, &f);
            if (rc) {
                fprintf(stderr, "micro: %s under %s: %s\n", s->name, mmus[m].name,
                        rc < 0 ? strerror(-rc)
                               : "what was timed is not what it should have been");
                return 1;
            }
            *late |= print_row(s, mmus[m].name, &f);
            json_array_append_new(rows, row_json(s, mmus[m].name, &f));
        }
    return 0;
}

int main(int argc, char **argv) {
    struct command c = {.rounds = ROUNDS, .penumbra = "penumbra"};
    bool late = false;
    if (!parse(&c, argc, argv))
        return usage();
    counter = open_counter();
    print_head();
    json_t *rows = json_array();
    int rc = measure_all(&c, rows, &late);
    if (!rc && !json_array_size(rows)) {
        fprintf(stderr, "micro: no stage is called %s\n", c.only);
        rc = 2;
    }
    json_t *j = json_pack("{s:s, s:o, s:i, s:o}", "schema", "penumbra-micro-1", "host",
                          c.json ? host_json(c.penumbra) : json_null(), "rounds",
                          (int)c.rounds, "rows", rows);
    if (!rc && c.json && json_dump_file(j, c.json, JSON_INDENT(2))) {
        fprintf(stderr, "micro: cannot write %s\n", c.json);
        rc = 1;
    }
    json_decref(j);
    return rc ? rc : c.check && late;
}
