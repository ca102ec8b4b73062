/* SPDX-License-Identifier: MIT */
/*
 * Tasks of a Linux guest: the one that runs on a CPU, and the list of all.
 *
 * Invariant: a list is followed for TASKS_MAX steps at most, so one that is a circle ends.
 */
#include <string.h>

#include "inspect/linux_internal.h"

#define TASKS_MAX (1u << 17)
#define PID_MAX   (1u << 22) /* PID_MAX_LIMIT of the kernel */
#define CPUS_MAX  8192u      /* NR_CPUS at most */

static bool read_comm(const struct linux_guest *g, uint64_t task, char comm[LINUX_COMM]) {
    return linux_name(g, task + g->image->task_comm.offset, comm, LINUX_COMM);
}

bool linux_task_read(const struct linux_guest *g, uint64_t at, struct linux_task *t) {
    const struct linux_image *k = g->image;
    uint64_t leader, pgd;
    *t = (struct linux_task){.at = at};
    if (!linux_u32(g, at, &k->task_pid, &t->pid) ||
        !linux_u32(g, at, &k->task_tgid, &t->tgid) || t->pid > PID_MAX ||
        t->tgid > PID_MAX || !read_comm(g, at, t->comm) ||
        !linux_u64(g, at, &k->task_mm, &t->mm) ||
        !linux_u64(g, at, &k->task_stack, &t->stack) ||
        !linux_u64(g, at, &k->task_leader, &leader) || !read_comm(g, leader, t->leader))
        return false;
    if (!t->mm)
        return true;
    return linux_u64(g, t->mm, &k->mm_pgd, &pgd) && linux_is_kernel(pgd) &&
           g->where(g->opaque, pgd, &t->cr3);
}

bool linux_per_cpu(const struct linux_guest *g, unsigned cpu, uint64_t *offset) {
    uint64_t table;
    return cpu < CPUS_MAX && linux_symbol(g, LINUX___per_cpu_offset, &table) &&
           linux_read(g, table + 8ull * cpu, offset, sizeof(*offset));
}

/* arch/x86/include/asm/current.h: current_task is a variable of its own, or, from 6.2 to 6.14, the
 * first of pcpu_hot. */
bool linux_current(const struct linux_guest *g, unsigned cpu, struct linux_task *t) {
    uint64_t variable, offset, task;
    bool own = linux_symbol(g, LINUX_current_task, &variable);
    if (!own && (!g->image->hot_task.size || !linux_symbol(g, LINUX_pcpu_hot, &variable)))
        return false;
    if (!own)
        variable += g->image->hot_task.offset;
    return linux_per_cpu(g, cpu, &offset) &&
           linux_read(g, variable + offset, &task, sizeof(task)) &&
           linux_task_read(g, task, t);
}

/* ---- How it came into the kernel ---- */

/* A task that ends has no mm any more; of a thread of the kernel the registers are 0
 * (copy_thread). struct pt_regs (arch/x86/include/asm/ptrace.h), of whose 21 words the last are orig_ax, ip,
 * cs, flags, sp and ss. It is at the end of the stack, or, with FRED, 16 bytes before it
 * (TOP_OF_KERNEL_STACK_PADDING). orig_ax is the number of a system call, and -1 in an exception
 * or interrupt (arch/x86/entry/entry_64.S). */
enum { ORIG_AX, IP, CS, FLAGS, SP, SS, FRAME_WORDS };
#define FRED_PADDING 16u
#define USER_CS      0x33u /* arch/x86/include/asm/segment.h */
#define USER_DS      0x2bu
#define SYSCALL_MAX  1024u

static bool in_entry_text(const struct linux_guest *g, uint64_t rip) {
    uint64_t from, to;
    return linux_symbol(g, LINUX___entry_text_start, &from) &&
           linux_symbol(g, LINUX___entry_text_end, &to) && rip >= from && rip < to;
}

bool linux_entry_read(const struct linux_guest *g, const struct linux_task *t,
                      uint64_t rip, struct linux_entry *e) {
    if (!linux_is_kernel(t->stack) || in_entry_text(g, rip))
        return false;
    for (unsigned padding = 0; padding <= FRED_PADDING; padding += FRED_PADDING) {
        uint64_t frame[FRAME_WORDS];
        uint64_t at = t->stack + LINUX_STACK - padding - sizeof(frame);
        /* Of FRED's own, the upper bits of cs and ss say more. */
        if (!linux_read(g, at, frame, sizeof(frame)) || (uint16_t)frame[CS] != USER_CS ||
            (uint16_t)frame[SS] != USER_DS)
            continue;
        *e = (struct linux_entry){
            frame[ORIG_AX] < SYSCALL_MAX ? frame[ORIG_AX] : UINT64_MAX, frame[IP]};
        return true;
    }
    return false;
}

/* ---- All ---- */

struct list {
    const struct linux_guest *g;
    linux_task_fn fn;
    void *opaque;
    unsigned steps;
};

/* The threads of a process, from its leader on. */
static bool threads(struct list *l, uint64_t leader) {
    const struct linux_image *k = l->g->image;
    struct linux_task t;
    uint64_t signal, at;
    if (!linux_u64(l->g, leader, &k->task_signal, &signal) ||
        !linux_u64(l->g, signal, &k->signal_threads, &at))
        return false;
    uint64_t end = signal + k->signal_threads.offset;
    while (at != end) {
        if (l->steps++ >= TASKS_MAX ||
            !linux_task_read(l->g, at - k->task_thread.offset, &t) ||
            !l->fn(l->opaque, &t) || !linux_read(l->g, at, &at, sizeof(at)))
            return false;
    }
    return true;
}

bool linux_tasks(const struct linux_guest *g, linux_task_fn fn, void *opaque) {
    struct list l = {.g = g, .fn = fn, .opaque = opaque};
    const struct types_member *next = &g->image->task_next;
    uint64_t init, at;
    if (!linux_symbol(g, LINUX_init_task, &init) || !linux_u64(g, init, next, &at))
        return false;
    while (at != init + next->offset) {
        if (l.steps++ >= TASKS_MAX || !threads(&l, at - next->offset) ||
            !linux_read(g, at, &at, sizeof(at)))
            return false;
    }
    return true;
}
