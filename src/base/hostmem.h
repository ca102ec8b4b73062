/* SPDX-License-Identifier: MIT */
/*
 * Host memory behind guest RAM: one mapping, zero-filled, placed and sized as asked.
 *
 * Pages are taken from the host when first touched. A size beyond what the host has (RAM
 * and swap) is refused at once, so that a guest does not die of it later.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct hostmem_config {
    uint64_t size;         /* bytes, a multiple of 4096, not 0 */
    const char *hugepages; /* "thp" (NULL), "off", "2M", "1G" */
    const char *numa;      /* "local", "bind=N", "interleave=A,B"; NULL: host's policy */
    bool shared; /* a memfd that another process can map (2M and 1G always are) */
};

struct hostmem {
    uint8_t *base; /* 2 MiB aligned (1 GiB with 1G); size usable bytes */
    uint64_t size;
    uint64_t mapped; /* size rounded up to the page size in use */
    int fd;          /* memfd, or -1 */
    bool huge;       /* transparent huge pages are wanted, and the host has them */
};

/* Return: 0; -EINVAL bad text, absent node, size beyond the host; others as mmap, mbind
 * and memfd_create say; one line in e that names the option. */
int hostmem_create(const struct hostmem_config *cfg, struct hostmem *out, struct err *e);
void hostmem_destroy(struct hostmem *m);

/* A copy of this process (fork) has ended: where either wrote meanwhile, the kernel has split huge pages for good.
 * Of memory with such pages (`huge`) each 2 MiB that has all its pages is one again. A hint, for a thread of its own: it
 * copies them. stop: set by another thread: no more. */
void hostmem_mend(const struct hostmem *m, const atomic_bool *stop);

/* Memory from `from` on, in bytes of it, is to be on that node of the host's, and what is there already
 * moves. Return: 0; -EINVAL: no such node, or a part of a huge page; others as mbind says; one line
 * in e that begins with `what`. */
int hostmem_bind(const struct hostmem *m, uint64_t from, uint64_t size, int node,
                 const char *what, struct err *e);
/* How many pages of 4 KiB of it are on each of the host's nodes, those beyond the last one counted with
 * it; pages that the host has not given are on none. Return: 0 or -errno. */
int hostmem_where(const struct hostmem *m, uint64_t from, uint64_t size, uint64_t *pages,
                  unsigned nodes);

/* Bytes of whole mappings in these `size` ones that the host holds; of them, in huge pages; and bytes
 * that it has swapped out. Return: 0 or -errno. */
struct hostmem_state {
    uint64_t resident, huge, swapped;
};
int hostmem_state(const void *at, uint64_t size, struct hostmem_state *s);

/* Return: bytes of RAM and swap this host has, or 0 when it does not say. */
uint64_t hostmem_limit(void);
