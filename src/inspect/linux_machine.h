/* SPDX-License-Identifier: MIT */
/* A Linux guest (linux.h) in the memory of a machine. */
#pragma once

#include "inspect/linux.h"
#include "machine/control.h"

struct linux_machine {
    struct linux_guest guest;
    struct machine *machine;
    bool ready;
    struct pn_cpu_state
        tables;      /* the kernel's own: what they map does not depend on a process */
    uint64_t direct; /* where the direct map begins, 0: not known */
    /* Pages of the kernel's image, which stay where they are: gva >> 12, and its gpa. */
    struct {
        uint64_t page;
        pn_gpa gpa;
    } seen[64];
};

/* Nothing is looked at yet. The image stays the caller's. */
void linux_machine_begin(struct linux_machine *l, struct machine *m,
                         const struct linux_image *image);
/* Before questions, each time that the guest has run: is the kernel there? cr3: what some vCPU
 * has. It may be called inside a vCPU's run, too. Return: false: not, or not yet. */
bool linux_machine_look(struct linux_machine *l, uint64_t cr3);
/* What the address is to the vCPU, which stands. Return: false: not known. */
bool linux_machine_region(struct linux_machine *l, unsigned cpu, uint64_t address,
                          struct linux_region *r);
/* The same as lines of an explanation; nothing where it is not known. */
void linux_machine_explain(struct linux_machine *l, unsigned cpu, uint64_t address,
                           FILE *out);
