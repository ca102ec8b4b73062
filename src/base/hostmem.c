/* SPDX-License-Identifier: MIT */
/*
 * Host memory behind guest RAM: see hostmem.h.
 *
 * Invariant: the mapping lies between two inaccessible guards, so that a stray access
 * next to guest RAM faults and hits nothing of ours.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <numa.h>
#include <numaif.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/hostmem.h"
#include "base/size.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

enum page_kind { PAGES_THP, PAGES_OFF, PAGES_2M, PAGES_1G };

static const struct {
    const char *name;
    uint64_t align;
    unsigned memfd_flags;
} kinds[] = {
    [PAGES_THP] = {"thp", 2u << 20, 0},
    [PAGES_OFF] = {"off", 2u << 20, 0},
    [PAGES_2M] = {"2M", 2u << 20, MFD_HUGETLB | MFD_HUGE_2MB},
    [PAGES_1G] = {"1G", 1u << 30, MFD_HUGETLB | MFD_HUGE_1GB},
};

uint64_t hostmem_limit(void) {
    struct sysinfo si;
    if (sysinfo(&si) < 0)
        return 0;
    return ((uint64_t)si.totalram + si.totalswap) * si.mem_unit;
}

static int parse_kind(const char *text, enum page_kind *kind, struct err *e) {
    if (!text)
        text = "thp";
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(text, kinds[i].name) == 0) {
            *kind = (enum page_kind)i;
            return 0;
        }
    }
    return err_set(e, -EINVAL, "--hugepages %s: not one of thp, 2M, 1G, off", text);
}

/* ---- NUMA placement ---- */

/* "N" or "A,B,C" into mask; every node must exist, have memory and be allowed. */
static int parse_nodes(const char *text, const char *list, bool one,
                       const struct bitmask *allowed, struct bitmask *mask,
                       struct err *e) {
    unsigned count = 0;
    for (const char *p = list;; p++) {
        char *end;
        unsigned long node = strtoul(p, &end, 10);
        if (*p < '0' || *p > '9' || (*end && *end != ',') || (one && *end))
            return err_set(e, -EINVAL, "--numa %s: %s", text,
                           one ? "wants one node number" : "wants node numbers A,B,...");
        if (node >= mask->size || !numa_bitmask_isbitset(allowed, node))
            return err_set(e, -EINVAL, "--numa %s: this host has no usable node %lu",
                           text, node);
        numa_bitmask_setbit(mask, (unsigned)node);
        count++;
        if (!*end)
            break;
        p = end;
    }
    return count ? 0 : -EINVAL;
}

/* "local", "bind=N" or "interleave=A,B". Return: 0 with *policy and mask, or -EINVAL. */
static int parse_policy(const char *text, const struct bitmask *allowed, int *policy,
                        struct bitmask *mask, struct err *e) {
    if (strcmp(text, "local") == 0) {
        *policy = MPOL_LOCAL;
        return 0;
    }
    if (strncmp(text, "bind=", 5) == 0) {
        *policy = MPOL_BIND;
        return parse_nodes(text, text + 5, true, allowed, mask, e);
    }
    if (strncmp(text, "interleave=", 11) == 0) {
        *policy = MPOL_INTERLEAVE;
        return parse_nodes(text, text + 11, false, allowed, mask, e);
    }
    return err_set(e, -EINVAL, "--numa %s: not one of local, bind=N, interleave=A,B",
                   text);
}

static int place(const struct hostmem *m, const char *text, struct err *e) {
    int policy = MPOL_DEFAULT;
    if (!text)
        return 0;
    if (numa_available() < 0) {
        if (strcmp(text, "local") == 0)
            return 0; /* one node: everything is local */
        return err_set(e, -EINVAL, "--numa %s: this host has no NUMA support", text);
    }
    struct bitmask *allowed = numa_get_mems_allowed(), *mask = numa_allocate_nodemask();
    int rc = -ENOMEM;
    if (!allowed || !mask) {
        err_set(e, rc, "--numa %s: out of memory", text);
    } else if ((rc = parse_policy(text, allowed, &policy, mask, e)) == 0) {
        bool nodes = policy != MPOL_LOCAL;
        if (mbind(m->base, m->mapped, policy, nodes ? mask->maskp : NULL,
                  nodes ? mask->size + 1 : 0, 0) < 0)
            rc = err_sys(e, -errno, "--numa %s: mbind", text);
    }
    if (allowed)
        numa_bitmask_free(allowed);
    if (mask)
        numa_bitmask_free(mask);
    return rc;
}

static int bind_to(const struct hostmem *m, uint64_t from, uint64_t size, unsigned node,
                   struct bitmask *mask, const char *what, struct err *e) {
    numa_bitmask_setbit(mask, node);
    if (mbind(m->base + from, size, MPOL_BIND, mask->maskp, mask->size + 1,
              MPOL_MF_MOVE) < 0)
        return err_sys(e, -errno, "%s: mbind", what);
    return 0;
}

int hostmem_bind(const struct hostmem *m, uint64_t from, uint64_t size, int node,
                 const char *what, struct err *e) {
    struct bitmask *allowed = numa_available() < 0 ? NULL : numa_get_mems_allowed();
    int rc;
    if (!allowed)
        return err_set(e, -EINVAL, "%s: this host has no NUMA support", what);
    if (node < 0 || (unsigned)node >= allowed->size ||
        !numa_bitmask_isbitset(allowed, (unsigned)node)) {
        rc = err_set(e, -EINVAL, "%s: this host has no usable node %d", what, node);
    } else {
        struct bitmask *mask = numa_allocate_nodemask();
        rc = mask ? bind_to(m, from, size, (unsigned)node, mask, what, e)
                  : err_set(e, -ENOMEM, "%s: out of memory", what);
        if (mask)
            numa_bitmask_free(mask);
    }
    numa_bitmask_free(allowed);
    return rc;
}

int hostmem_where(const struct hostmem *m, uint64_t from, uint64_t size, uint64_t *pages,
                  unsigned nodes) {
    void *page[512];
    int node[512];
    memset(pages, 0, nodes * sizeof(*pages));
    for (uint64_t at = from; at < from + size;) {
        unsigned n = 0;
        for (; n < 512 && at < from + size; at += 4096)
            page[n++] = m->base + at;
        if (move_pages(0, n, page, NULL, node, 0) < 0)
            return -errno;
        for (unsigned i = 0; i < n; i++)
            if (node[i] >= 0)
                pages[(unsigned)node[i] < nodes ? (unsigned)node[i] : nodes - 1]++;
    }
    return 0;
}

/* ---- Mapping ---- */

static int map_error(uint64_t size, enum page_kind kind, int rc, struct err *e) {
    char text[SIZE_TEXT_MAX];
    size_text(size, text);
    if (kinds[kind].memfd_flags)
        return err_set(e, rc,
                       "--hugepages %s: the host's pool of such pages cannot give %s "
                       "(/sys/kernel/mm/hugepages): %s",
                       kinds[kind].name, text, strerror(-rc));
    return err_sys(e, rc, "-m %s: the host gives no such memory", text);
}

static int open_memfd(struct hostmem *m, enum page_kind kind) {
    m->fd = memfd_create("penumbra-ram", MFD_CLOEXEC | kinds[kind].memfd_flags);
    if (m->fd < 0)
        return -errno;
    return ftruncate(m->fd, (off_t)m->mapped) < 0 ? -errno : 0;
}

/* Reserve address space with room for alignment and guards, then map into its middle. */
static int map(struct hostmem *m, enum page_kind kind) {
    uint64_t align = kinds[kind].align, page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t span = m->mapped + align + 2 * page;
    uint8_t *area =
        mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED)
        return -errno;
    uint8_t *base =
        (uint8_t *)(((uintptr_t)area + page + align - 1) & ~(uintptr_t)(align - 1));
    int flags = MAP_FIXED | (m->fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
    /* Reserved pool pages or SIGBUS later: hugetlb is the one kind that must reserve. */
    if (!kinds[kind].memfd_flags)
        flags |= MAP_NORESERVE;
    if (mmap(base, m->mapped, PROT_READ | PROT_WRITE, flags, m->fd, 0) == MAP_FAILED) {
        int rc = -errno;
        munmap(area, span);
        return rc;
    }
    m->base = base;
    munmap(area, (size_t)(base - area) - page);
    uint8_t *tail = base + m->mapped + page;
    munmap(tail, (size_t)(area + span - tail));
    return 0;
}

/* Unreadable: no. */
static bool host_has_thp(void) {
    char text[64] = "";
    int fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    return n > 0 && !strstr(text, "[never]");
}

int hostmem_create(const struct hostmem_config *cfg, struct hostmem *out, struct err *e) {
    enum page_kind kind = PAGES_THP;
    int rc = parse_kind(cfg->hugepages, &kind, e);
    if (rc)
        return rc;
    uint64_t limit = hostmem_limit();
    if (limit && cfg->size > limit) {
        char text[SIZE_TEXT_MAX];
        return err_set(e, -EINVAL, "-m %s: this host has %.1fG of memory and swap",
                       size_text(cfg->size, text), (double)limit / (1u << 30));
    }
    uint64_t unit = kinds[kind].memfd_flags ? kinds[kind].align : 4096;
    struct hostmem m = {.size = cfg->size, .fd = -1};
    m.mapped = (cfg->size + unit - 1) & ~(unit - 1);
    if (cfg->shared || kinds[kind].memfd_flags)
        rc = open_memfd(&m, kind);
    if (rc == 0)
        rc = map(&m, kind);
    if (rc) {
        hostmem_destroy(&m);
        return map_error(m.mapped, kind, rc, e);
    }
    /* Advice: a host without transparent huge pages is no error. */
    if (!kinds[kind].memfd_flags)
        (void)madvise(m.base, m.mapped,
                      kind == PAGES_THP ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    m.huge = kind == PAGES_THP && m.fd < 0 && host_has_thp();
    (void)madvise(m.base, m.mapped, MADV_DONTDUMP);
    rc = place(&m, cfg->numa, e);
    if (rc) {
        hostmem_destroy(&m);
        return rc;
    }
    *out = m;
    return 0;
}

/* What was given back to the host (a balloon's pages) is not taken again: such a block stays as it is. */
void hostmem_mend(const struct hostmem *m, const atomic_bool *stop) {
    const size_t block = 2u << 20;
    unsigned char there[(2u << 20) / 4096];
    for (uint64_t at = 0; m->huge && at + block <= m->mapped && !atomic_load(stop);
         at += block) {
        if (mincore(m->base + at, block, there))
            return;
        size_t n = 0;
        while (n < sizeof(there) && there[n] & 1)
            n++;
        if (n == sizeof(there))
            (void)madvise(m->base + at, block, MADV_COLLAPSE);
    }
}

void hostmem_destroy(struct hostmem *m) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (m->base)
        munmap(m->base - page, m->mapped + 2 * page);
    if (m->fd >= 0)
        close(m->fd);
    m->base = NULL;
    m->fd = -1;
}
