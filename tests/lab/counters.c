/* SPDX-License-Identifier: MIT */
/*
 * counters MMU POINTS EXPLAINED KVM.json OURS.json: two results of `penumbra bench` for
 * the same points, KVM's counters beside those of our MMU (shadow or tdp) as a Markdown
 * table. Under shadow every workload must be there. Operations and checksums must be
 * equal; a counter that differs by 5% or more must be listed in EXPLAINED, and what is
 * listed must differ so somewhere, but for what has a '?' behind it.
 */
#include <fnmatch.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/workload.h"

#define LIMIT      5.0 /* per cent */
#define LINE_BYTES 256
#define POINTS_MAX 64
#define NOTES_MAX  128

/* What means the same: KVM's counter and ours, or the sum of two. */
struct counter {
    const char *kvm, *kvm2, *ours, *ours2;
};
static const struct counter of_shadow[] = {
    {"pf_taken", NULL, "pf_taken", NULL},
    {"pf_fixed", "pf_spurious", "pf_fixed", "pf_dirty_log"},
    {"pf_guest", NULL, "pf_guest", NULL},
    {"pf_emulate", NULL, "pf_tracked", "pf_mmio"},
    {"mmu_pte_write", NULL, "mmu_pte_write", NULL},
    {"mmu_cache_miss", NULL, "sp_created", NULL},
    {"mmu_shadow_zapped", NULL, "sp_zapped", NULL},
    {"mmu_flooded", NULL, "mmu_flooded", NULL},
    {"mmu_recycled", NULL, "mmu_recycled", NULL},
    {"mmu_unsync", NULL, "mmu_unsync", NULL},
    {"pages_4k", NULL, "pages_4k", NULL},
    {"pages_2m", NULL, "pages_2m", NULL},
    {"invlpg", NULL, "invlpg", NULL},
    {"tlb_flush", NULL, "tlb_flush", NULL},
    {"io_exits", NULL, "io_exits", NULL},
    {"mmio_exits", NULL, "mmio_exits", NULL},
};
static const struct counter of_tdp[] = {
    {"pf_taken", NULL, "ept_violation", NULL},
    {"pf_fixed", "pf_spurious", "pf_fixed", "pf_dirty_log"},
    {"pf_emulate", NULL, "pf_mmio", NULL},
    {"pages_4k", NULL, "pages_4k", NULL},
    {"pages_2m", NULL, "pages_2m", NULL},
    {"tlb_flush", NULL, "tlb_flush", NULL},
};
#define COUNT(list)  (sizeof(list) / sizeof((list)[0]))
#define COUNTERS_MAX COUNT(of_shadow)
_Static_assert(COUNT(of_tdp) <= COUNTERS_MAX, "fit");

struct cell {
    int64_t kvm, ours;
};

/* A difference that is explained: of this counter, at the points that match. */
struct note {
    char number[8], pattern[LINE_BYTES], counter[32];
    bool used;
};

struct table {
    const struct counter *counter;
    unsigned counters;
    char point[POINTS_MAX][LINE_BYTES];
    struct cell cell[POINTS_MAX][COUNTERS_MAX];
    unsigned points;
    struct note note[NOTES_MAX];
    unsigned notes;
    unsigned faults;
};

static void fault(struct table *t, const char *what, const char *which) {
    printf("FAIL: %s: %s\n", which, what);
    t->faults++;
}

/* ---- Reading ---- */

/* The next line that is neither empty nor a comment, without its end. */
static bool next_line(FILE *f, char *line) {
    while (fgets(line, LINE_BYTES, f)) {
        line[strcspn(line, "\n")] = 0;
        if (*line && *line != '#')
            return true;
    }
    return false;
}

static FILE *open_or_exit(const char *path) {
    FILE *f = fopen(path, "re");
    if (!f) {
        perror(path);
        exit(2);
    }
    return f;
}

static void read_points(struct table *t, const char *path) {
    FILE *f = open_or_exit(path);
    while (t->points < POINTS_MAX && next_line(f, t->point[t->points]))
        t->points++;
    fclose(f);
}

static void read_notes(struct table *t, const char *path) {
    FILE *f = open_or_exit(path);
    char line[LINE_BYTES];
    while (next_line(f, line)) {
        char *at, *number = strtok_r(line, " ", &at), *pattern = strtok_r(NULL, " ", &at);
        for (char *name; (name = strtok_r(NULL, " ", &at)) && t->notes < NOTES_MAX;) {
            struct note *n = &t->note[t->notes++];
            snprintf(n->number, sizeof(n->number), "%s", number);
            snprintf(n->pattern, sizeof(n->pattern), "%s", pattern);
            size_t length = strcspn(name, "?");
            snprintf(n->counter, sizeof(n->counter), "%.*s", (int)length, name);
            n->used = name[length]; /* it may be small */
        }
    }
    fclose(f);
}

static json_t *read_results(const char *path) {
    json_error_t e;
    json_t *file = json_load_file(path, 0, &e), *r = json_object_get(file, "results");
    if (!json_is_array(r)) {
        printf("FAIL: %s: %s\n", path, file ? "no results" : e.text);
        exit(1);
    }
    json_incref(r);
    json_decref(file);
    return r;
}

/* ---- Taking over ---- */

static const char *text(const json_t *result, const char *member) {
    const char *s = json_string_value(json_object_get(result, member));
    return s ? s : "";
}

static int64_t number(struct table *t, const json_t *counts, const char *name) {
    const json_t *v = json_object_get(counts, name);
    if (!json_is_integer(v))
        fault(t, "no such counter", name);
    return json_integer_value(v);
}

static void take_point(struct table *t, unsigned i, const json_t *kvm,
                       const json_t *ours) {
    const char *name = t->point[i];
    size_t n = strcspn(name, ":");
    const char *workload = text(kvm, "workload");
    if (strlen(workload) != n || strncmp(workload, name, n) != 0 ||
        strcmp(workload, text(ours, "workload")) != 0 ||
        strcmp(text(kvm, "params"), text(ours, "params")) != 0) {
        fault(t, "the results are of another point", name);
        return;
    }
    if (*text(kvm, "error") || *text(ours, "error")) {
        fault(t, *text(kvm, "error") ? text(kvm, "error") : text(ours, "error"), name);
        return;
    }
    bool boot = !strcmp(workload, "linux.boot"); /* its checksum is of what it printed */
    if ((!boot && strcmp(text(kvm, "checksum"), text(ours, "checksum")) != 0) ||
        !json_equal(json_object_get(kvm, "ops"), json_object_get(ours, "ops")))
        fault(t, "another checksum, or other operations", name);
    json_t *theirs =
        json_copy(json_object_get(json_object_get(kvm, "hypervisor_counters"), "vm"));
    json_object_update(
        theirs, json_object_get(json_object_get(kvm, "hypervisor_counters"), "vcpu0"));
    const json_t *own = json_object_get(ours, "counters");
    for (unsigned c = 0; c < t->counters; c++) {
        struct cell *cell = &t->cell[i][c];
        cell->kvm = number(t, theirs, t->counter[c].kvm);
        if (t->counter[c].kvm2)
            cell->kvm += number(t, theirs, t->counter[c].kvm2);
        cell->ours = number(t, own, t->counter[c].ours);
        if (t->counter[c].ours2)
            cell->ours += number(t, own, t->counter[c].ours2);
    }
    json_decref(theirs);
}

/* All but the hypervisor: the lab's KVM has no SVM for its guests. */
static void check_workloads(struct table *t) {
    for (int w = 0; w < WORKLOADS; w++) {
        if (!strcmp(workloads[w].name, "nested"))
            continue;
        size_t n = strlen(workloads[w].name);
        unsigned i = 0;
        while (i < t->points &&
               (strncmp(t->point[i], workloads[w].name, n) || t->point[i][n] != ':'))
            i++;
        if (i == t->points)
            fault(t, "no point of this workload", workloads[w].name);
    }
}

/* ---- The table ---- */

/* Per cent of KVM's; infinite when KVM counted none and we some. */
static double difference(const struct cell *c) {
    if (c->kvm == c->ours)
        return 0;
    return c->kvm ? 100.0 * (double)(c->ours - c->kvm) / (double)c->kvm : INFINITY;
}

/* Return: the number of the note that explains it, or "?". */
static const char *explained(struct table *t, unsigned point, unsigned counter) {
    const char *number = "?";
    for (unsigned i = 0; i < t->notes; i++) {
        struct note *n = &t->note[i];
        if (!strcmp(n->counter, t->counter[counter].kvm) &&
            !fnmatch(n->pattern, t->point[point], 0)) {
            n->used = true;
            number = n->number;
        }
    }
    return number;
}

static void print_cell(struct table *t, unsigned point, unsigned counter) {
    const struct cell *c = &t->cell[point][counter];
    double percent = difference(c);
    if (c->kvm == c->ours) {
        printf(" %" PRId64 " |", c->kvm);
        return;
    }
    printf(" %" PRId64 " / %" PRId64, c->kvm, c->ours);
    if (isfinite(percent))
        printf(" %+.1f%%", percent);
    if (fabs(percent) >= LIMIT) {
        const char *note = explained(t, point, counter);
        printf(" [%s]", note);
        t->faults += *note == '?';
    }
    printf(" |");
}

static bool column_empty(const struct table *t, unsigned c) {
    for (unsigned i = 0; i < t->points; i++)
        if (t->cell[i][c].kvm || t->cell[i][c].ours)
            return false;
    return true;
}

static void print_table(struct table *t) {
    printf("| workload |");
    for (unsigned c = 0; c < t->counters; c++)
        if (!column_empty(t, c))
            printf(" `%s` |", t->counter[c].kvm);
    printf("\n|---|");
    for (unsigned c = 0; c < t->counters; c++)
        if (!column_empty(t, c))
            printf("---:|");
    for (unsigned i = 0; i < t->points; i++) {
        printf("\n| `%s` |", t->point[i]);
        for (unsigned c = 0; c < t->counters; c++)
            if (!column_empty(t, c))
                print_cell(t, i, c);
    }
    printf("\n\n");
    for (unsigned c = 0; c < t->counters; c++)
        if (column_empty(t, c))
            printf("`%s` is 0 everywhere, on both sides.\n", t->counter[c].kvm);
}

int main(int argc, char **argv) {
    static struct table t;
    bool shadow = argc == 6 && !strcmp(argv[1], "shadow");
    if (!shadow && (argc != 6 || strcmp(argv[1], "tdp") != 0)) {
        fprintf(stderr, "see the top of counters.c\n");
        return 2;
    }
    t.counter = shadow ? of_shadow : of_tdp;
    t.counters = shadow ? COUNT(of_shadow) : COUNT(of_tdp);
    read_points(&t, argv[2]);
    read_notes(&t, argv[3]);
    json_t *kvm = read_results(argv[4]), *ours = read_results(argv[5]);
    if (json_array_size(kvm) != t.points || json_array_size(ours) != t.points)
        fault(&t, "not as many results as points", argv[4]);
    for (unsigned i = 0; i < t.points; i++)
        take_point(&t, i, json_array_get(kvm, i), json_array_get(ours, i));
    if (shadow)
        check_workloads(&t);
    if (!t.faults) {
        print_table(&t);
        if (t.faults)
            printf("FAIL: %u differences of 5%% or more, marked [?], are not explained\n",
                   t.faults);
        for (unsigned i = 0; i < t.notes; i++)
            if (!t.note[i].used) {
                printf("at %s: ", t.note[i].pattern);
                fault(&t, "explained, but nowhere 5% apart", t.note[i].counter);
            }
    }
    json_decref(kvm);
    json_decref(ours);
    return t.faults ? 1 : 0;
}
