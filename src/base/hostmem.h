/* SPDX-License-Identifier: MIT */
/*
 * Host memory behind guest RAM: one mapping, zero-filled, placed and sized as asked.
 *
 * Pages are taken from the host when first touched. A size beyond what the host has (RAM
 * and swap) is refused at once, so that a guest does not die of it later.
 */
#pragma once

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
};

/* Return: 0; -EINVAL bad text, absent node, size beyond the host; others as mmap, mbind
 * and memfd_create say; one line in e that names the option. */
int hostmem_create(const struct hostmem_config *cfg, struct hostmem *out, struct err *e);
void hostmem_destroy(struct hostmem *m);

/* Return: bytes of RAM and swap this host has, or 0 when it does not say. */
uint64_t hostmem_limit(void);
