/* SPDX-License-Identifier: MIT */
/*
 * What a guest's instructions belong to: a function of its kernel, of a module, or a mapping of a
 * process. The kernel is Linux, or anything with symbols; without any, an address is its own name.
 *
 * No locks. guest_names_task alone may be called in a signal handler: it reads guest memory, and
 * neither allocates nor writes anything but *n.
 */
#pragma once

#include "inspect/linux_machine.h"

struct guest_names;
/* kernel: its file, or NULL; blob: instead of a file, or NULL. A kernel without symbols is none that
 * fails. Return: 0 or -ENOMEM, with a line in e. */
int guest_names_create(struct machine *m, const char *kernel, const void *blob,
                       size_t blob_size, struct guest_names **out, struct err *e);
void guest_names_destroy(struct guest_names *n); /* NULL: nothing */
/* Is it Linux, with types, so that processes are known? */
bool guest_names_processes(const struct guest_names *n);

/* Who runs, and in which of its mappings. */
struct guest_task {
    uint32_t pid;            /* of the process */
    char comm[LINUX_COMM];   /* of its first thread; "": not known */
    char region[LINUX_NAME]; /* of rip, at CPL 3; "": not known */
};
/* May guest memory be read now? Return: false: not known. */
bool guest_names_task(struct guest_names *n, const struct pn_where *w,
                      struct guest_task *t);

#define GUEST_NAME (LINUX_FUNCTION + LINUX_MODULE + 4)
/* The function at rip, of the kernel or a module, or the address. While the machine stands. */
void guest_names_function(struct guest_names *n, uint64_t rip, char name[GUEST_NAME]);
