/* SPDX-License-Identifier: MIT */
/*
 * Persistent memory: a file that is a memslot of the guest's, above its RAM.
 *
 * Invariants
 * 1. The mapping begins on 2 MiB in the guest and on the host, so that both may map it by large
 *    pages, and the file has all its blocks: a store does not end for want of room on the disk.
 * 2. The file is locked as a disk's image is. Who cuts it short all the same ends this process at
 *    the guest's next access behind its end (SIGBUS).
 */
#pragma once

#include "dev/virtio_devices.h"
#include "machine/state.h"

#define PMEM_ALIGN (2ull << 20)

struct pmem;

/* number: from 0, of the machine's. lost: what the guest stores is lost in the end. *end: the first address above all memory so
 * far; it goes on behind this. Return: 0, or -errno with a line in e that begins with path. */
int pmem_create(struct machine *m, unsigned number, const char *path, bool lost,
                pn_gpa *end, struct pmem **out, struct err *e);
void pmem_destroy(struct pmem *p); /* NULL: nothing */
/* Its memslot, in the engine that the machine has now. Return: 0 or -errno. */
int pmem_add_slot(struct machine *m, const struct pmem *p);
struct pn_memslot pmem_slot(const struct pmem *p);
/* start, size and flush of its device. */
struct virtio_pmem_config pmem_device(struct pmem *p);
