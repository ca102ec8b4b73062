/* SPDX-License-Identifier: MIT */
/* What is damaged in a snapshot, and what differs between two: snapshot.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "machine/snapshot_internal.h"

unsigned snapshot_verify(const struct snapshot *s, FILE *out) {
    unsigned all = 0;
    for (const struct snapshot *one = s; one; one = one->parent) {
        char line[200] = "", *text = NULL, *save = NULL;
        struct err e = {line, sizeof(line)};
        unsigned damaged = 0;
        size_t size = 0;
        FILE *lines = open_memstream(&text, &size);
        if (!lines)
            return all + 1;
        if (snap_memory_read(&one->memory, NULL, NULL, lines, &damaged, &e)) {
            fprintf(lines, "%s\n", line);
            damaged++;
        }
        fclose(lines);
        for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
            fprintf(out, "%s%s%s\n", one == s ? "" : one->dir, one == s ? "" : ": ", l);
        free(text);
        all += damaged;
    }
    return all;
}

/* ---- The machine ---- */

static unsigned diff_config(const struct snapshot *a, const struct snapshot *b,
                            FILE *out) {
    const json_t *x = json_object_get(a->manifest, "machine");
    const json_t *y = json_object_get(b->manifest, "machine");
    unsigned n = 0;
#define CONFIG_NUMBER(key, member, most) CONFIG_TEXT(key, member)
#define CONFIG_FLAG(key, member)         CONFIG_TEXT(key, member)
#define CONFIG_TEXT(key, member)                                                         \
    if (!json_equal(json_object_get(x, key), json_object_get(y, key))) {                 \
        fprintf(out, "machine: %s differs\n", key);                                      \
        n++;                                                                             \
    }
#include "machine/snapshot_config.inc"
    return n;
}

static unsigned diff_bytes(const struct snap_section *x, const struct snap_section *y,
                           FILE *out) {
    size_t first = x->size, count = 0;
    for (size_t i = x->size; x->size == y->size && i-- > 0;)
        if (x->data[i] != y->data[i]) {
            first = i;
            count++;
        }
    if (x->version != y->version || x->size != y->size)
        fprintf(out, "%s: of another version\n", x->name);
    else if (count)
        fprintf(out, "%s: %zu bytes of %zu differ, the first at %zu\n", x->name, count,
                x->size, first);
    return x->version != y->version || x->size != y->size || count;
}

/* Return: lines, or -ENOMEM. */
static int diff_machine(const struct snapshot *a, const struct snapshot *b, FILE *out) {
    const struct snap_section *x = snap_find(a, "machine"), *y = snap_find(b, "machine");
    struct machine *of[2] = {calloc(1, sizeof(**of)), calloc(1, sizeof(**of))};
    uint64_t seen[SNAP_FIELDS_MAX / 64];
    struct err none = {NULL, 0};
    int n = of[0] && of[1] ? 0 : -ENOMEM;
    bool read = n == 0 && x && y &&
                !snap_get_fields("machine", x->data, x->size, snap_machine_fields,
                                 snap_machine_field_count, of[0], seen, &none) &&
                !snap_get_fields("machine", y->data, y->size, snap_machine_fields,
                                 snap_machine_field_count, of[1], seen, &none);
    for (unsigned i = 0; read && i < snap_machine_field_count; i++) {
        const struct snap_field *f = &snap_machine_fields[i];
        uint64_t v[2] = {0, 0};
        if (!memcmp((uint8_t *)of[0] + f->offset, (uint8_t *)of[1] + f->offset, f->size))
            continue;
        for (unsigned k = 0; k < 2 && f->size <= sizeof(v[k]); k++)
            memcpy(&v[k], (uint8_t *)of[k] + f->offset, f->size);
        fprintf(out, "machine: %s: 0x%" PRIx64 ", 0x%" PRIx64 "\n", f->name, v[0], v[1]);
        n++;
    }
    if (!read && n == 0 && x && y)
        n = (int)diff_bytes(x, y, out);
    free(of[0]);
    free(of[1]);
    return n;
}

/* ---- vCPUs and devices ---- */

/* The lines of a vCPU, with its name before each. Return: lines, or -ENOMEM. */
static int diff_vcpu(const struct snapshot *a, const struct snapshot *b, unsigned cpu,
                     FILE *out) {
    struct pn_cpu_state *s = calloc(2, sizeof(*s));
    struct machine_cpu run[2];
    struct err none = {NULL, 0};
    char *text = NULL, *save = NULL;
    size_t size = 0;
    FILE *lines = open_memstream(&text, &size);
    int n = s && lines ? 0 : -ENOMEM;
    if (n == 0 && !snap_get_vcpu(a, cpu, &s[0], &run[0], &none) &&
        !snap_get_vcpu(b, cpu, &s[1], &run[1], &none)) {
        n = (int)pn_cpu_state_diff(&s[0], &s[1], lines);
        if (run[0].state != run[1].state || run[0].init != run[1].init ||
            run[0].sipi != run[1].sipi) {
            fputs("run: not in the same state\n", lines);
            n++;
        }
    }
    if (lines)
        fclose(lines);
    for (char *l = n > 0 ? strtok_r(text, "\n", &save) : NULL; l;
         l = strtok_r(NULL, "\n", &save))
        fprintf(out, "vcpu%u: %s\n", cpu, l);
    free(text);
    free(s);
    return n;
}

static int diff_sections(const struct snapshot *a, const struct snapshot *b, FILE *out) {
    int n = diff_machine(a, b, out);
    for (unsigned i = 0; n >= 0 && i < b->sections; i++)
        if (!snap_find(a, b->section[i].name)) {
            fprintf(out, "%s: only in the second\n", b->section[i].name);
            n++;
        }
    for (unsigned i = 0; n >= 0 && i < a->sections; i++) {
        const struct snap_section *x = &a->section[i], *y = snap_find(b, x->name);
        unsigned cpu;
        int more = 0;
        if (!y) {
            fprintf(out, "%s: only in the first\n", x->name);
            more = 1;
        } else if (sscanf(x->name, "vcpu%u", &cpu) == 1) {
            more = diff_vcpu(a, b, cpu, out);
        } else if (strcmp(x->name, "machine") != 0) {
            more = (int)diff_bytes(x, y, out);
        }
        n = more < 0 ? more : n + more;
    }
    return n;
}

/* ---- Pages ---- */

static bool same_page(const struct snap_memory *a, uint64_t i,
                      const struct snap_memory *b, uint64_t j) {
    return !a->page[i] == !b->page[j] && snap_hash_of(a, i) == snap_hash_of(b, j);
}

static uint64_t gfn_of(uint64_t page) {
    uint64_t low = LOW_RAM_MAX / PN_PAGE_SIZE;
    return page < low ? page : HIGH_RAM_BASE / PN_PAGE_SIZE + (page - low);
}

/* "ram: 3 pages differ: 100-101 205": frame numbers in hexadecimal. */
static unsigned diff_region(const struct snapshot *a, uint64_t i,
                            const struct snapshot *b, uint64_t j,
                            const struct snap_region *r, FILE *out) {
    const struct snap_memory *x = &a->memory, *y = &b->memory;
    uint64_t count = 0;
    for (uint64_t p = 0; p < r->pages; p++)
        count += !same_page(x, i + p, y, j + p);
    if (!count)
        return 0;
    fprintf(out, "%s: %" PRIu64 " page%s:", r->name, count,
            count > 1 ? "s differ" : " differs");
    for (uint64_t p = 0; p < r->pages; p++) {
        uint64_t first = p;
        while (p < r->pages && !same_page(x, i + p, y, j + p) &&
               gfn_of(p) - gfn_of(first) == p - first)
            p++;
        if (p > first)
            fprintf(out, " %" PRIx64, gfn_of(first));
        if (p > first + 1)
            fprintf(out, "-%" PRIx64, gfn_of(p - 1));
        if (p > first && p < r->pages && !same_page(x, i + p, y, j + p))
            p--; /* a new run begins here */
    }
    fputc('\n', out);
    return 1;
}

/* Regions are always in the same order. */
static unsigned diff_pages(const struct snapshot *a, const struct snapshot *b,
                           FILE *out) {
    unsigned n = 0;
    uint64_t i = 0, j = 0;
    for (unsigned k = 0; k < a->memory.regions || k < b->memory.regions; k++) {
        const struct snap_region *x = k < a->memory.regions ? &a->memory.region[k] : NULL;
        const struct snap_region *y = k < b->memory.regions ? &b->memory.region[k] : NULL;
        if (x && y && x->pages == y->pages && !strcmp(x->name, y->name)) {
            n += diff_region(a, i, b, j, x, out);
        } else {
            fprintf(out, "%s: not the same memory\n", (x ? x : y)->name);
            n++;
        }
        i += x ? x->pages : 0;
        j += y ? y->pages : 0;
    }
    return n;
}

int snapshot_diff(const struct snapshot *a, const struct snapshot *b, FILE *out) {
    int n = (int)diff_config(a, b, out), more = diff_sections(a, b, out);
    return more < 0 ? more : n + more + (int)diff_pages(a, b, out);
}
