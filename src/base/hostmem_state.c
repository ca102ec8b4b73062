/* SPDX-License-Identifier: MIT */
/* What the host has done with memory: /proc/PID/smaps (proc_pid_smaps(5)), whose figures are KiB. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hostmem.h"

/* A mapping's lines, and what each adds to. Pages of a pool of huge ones are not in Rss. */
static const struct {
    const char *name;
    bool resident, huge, swapped;
} lines[] = {
    {"Rss", .resident = true},
    {"AnonHugePages", .huge = true},
    {"ShmemPmdMapped", .huge = true},
    {"FilePmdMapped", .huge = true},
    {"Swap", .swapped = true},
    {"Shared_Hugetlb", .resident = true, .huge = true},
    {"Private_Hugetlb", .resident = true, .huge = true},
};

static void add(struct hostmem_state *s, const char *name, uint64_t kib) {
    for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        if (strcmp(lines[i].name, name) != 0)
            continue;
        s->resident += lines[i].resident ? kib << 10 : 0;
        s->huge += lines[i].huge ? kib << 10 : 0;
        s->swapped += lines[i].swapped ? kib << 10 : 0;
    }
}

int hostmem_state(const void *at, uint64_t size, struct hostmem_state *s) {
    uint64_t from = 0, to = 0, kib, base = (uintptr_t)at;
    char line[512], name[32];
    *s = (struct hostmem_state){0};
    FILE *f = fopen("/proc/self/smaps", "re");
    if (!f)
        return -errno;
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2)
            continue;
        if (from >= base && to <= base + size &&
            sscanf(line, "%31[A-Za-z_]: %" SCNu64 " kB", name, &kib) == 2)
            add(s, name, kib);
    }
    fclose(f);
    return 0;
}
