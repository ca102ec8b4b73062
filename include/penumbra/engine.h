/* SPDX-License-Identifier: MIT */
/*
 * Who runs the vCPUs: one ops table for every engine.
 *
 * An engine owns vCPUs and the translation of guest memory; the machine owns memory,
 * devices, the clock and the interrupt controller, and is reached through struct pn_bus.
 */
#pragma once

#include <stdio.h>

#include "penumbra/bus.h"
#include "penumbra/chips.h"
#include "penumbra/cpu_state.h"
#include "penumbra/debug.h"
#include "penumbra/dirty.h"
#include "penumbra/events.h"
#include "penumbra/mmu.h"
#include "penumbra/parts.h"
#include "penumbra/stats.h"

enum pn_exit_reason {
    PN_EXIT_DEADLINE, /* virtual time reached what pn_engine_ops.run was given */
    PN_EXIT_HALT,     /* halted, nothing pending */
    PN_EXIT_SHUTDOWN, /* triple fault */
    PN_EXIT_STOP,     /* kicked, or the bus asked for it */
    PN_EXIT_DEBUG,    /* a debugger's: debug_stop says which */
    PN_EXIT_ERROR     /* the host failed: error holds the message */
};

struct pn_engine;
struct parallel; /* base/parallel.h */

struct pn_port_range {
    uint16_t port, count;
};

struct pn_engine_ops;
struct pn_engine_config {
    unsigned cpus;
    const char *cpu_model; /* --cpu */
    const struct pn_mmu_options *mmu;
    const struct pn_tlb_model *tlb;     /* copied; NULL: none. Soft engines only */
    const struct pn_nodes *nodes;       /* of that model: penumbra/mmu.h */
    const struct pn_recorder *recorder; /* of the MMU; NULL: none. Soft engines only */
    const struct pn_bus *bus;
    /* Guest memory as it begins. Others may come and go (set_slot). */
    const struct pn_memslot *slot;
    unsigned slot_count;
    struct pn_ring *rings; /* one per vCPU, or NULL */
    uint64_t seed;
    bool host_clock; /* --clock host */
    /* Soft engines: the vCPUs' runs are on threads of their own, and begin and end under its lock,
     * as does every other call but kick; needs host_clock. NULL: one thread makes all calls. */
    struct parallel *parallel;
    uint64_t start_ns;             /* virtual time begins here (a machine that goes on) */
    enum pn_dirty_tracker tracker; /* for slots with PN_SLOT_LOG_DIRTY; OFF: none */
    uint32_t max_block;            /* soft: 0 default, 1 stepping */
    bool code_for_perf;            /* soft: translated code where perf looks for names */
    uint32_t pv;                   /* penumbra/pv.h: features, or PN_PV_DEFAULT */
    /* Ports whose writes may reach the bus as late as the next access to any other. */
    const struct pn_port_range *posted;
    unsigned posted_count;
    bool
        eventfds; /* kvm: bells, and messages by descriptors (irqfd), where it has them */
    int64_t halt_poll_ns; /* kvm: how long a halted vCPU polls; -1: KVM's own */
    /* Where the guest comes from (a machine that goes on), or NULL. A soft engine answers
     * CPUID as that one did. */
    const struct pn_engine_ops *from_ops;
    struct pn_engine *from;
    /* The host's CPU runs the guest later: a soft engine is of its vendor, unless
     * cpu_model names one. */
    bool to_host_cpu;
};

/* One counter of somebody else's, under its own name; group says whose ("vm", "vcpu0").
 * count > 1: a histogram's buckets. */
typedef void (*pn_foreign_stat_fn)(void *opaque, const char *group, const char *name,
                                   const uint64_t *value, unsigned count);

/* One translated block: its code here, and the guest's instruction that it begins with. */
typedef void (*pn_block_fn)(void *opaque, const void *code, size_t size, uint64_t rip);

struct pn_engine_ops {
    const char *name; /* as in --mmu */
    const char *what; /* who runs the guest and who translates, one line */
    /* The host's CPU runs the guest, and its TLB and its hypervisor's MMU translate:
     * times are measured, and no two runs are equal. Else the software CPU does: times
     * are simulated, runs repeatable, and TLBs can be modelled. */
    bool host_cpu;
    /* Counters whose sum is what would have left the guest on a CPU, PN_STAT_COUNT behind
     * the last. NULL: the hypervisor counts its exits. */
    const enum pn_stat *exits;
    /* run() blocks in the kernel: one thread per vCPU, the host's clock, interrupt
     * controllers and PIT inside the engine. interrupt, unhalt, set_deadline, skip, init,
     * sipi, insns and tsc are then NULL, and irq and msi are not. */
    bool threaded;
    /* Return: 0, or -errno with one line in err. */
    int (*create)(const struct pn_engine_config *cfg, struct pn_engine **out, char *err,
                  size_t err_size);
    void (*destroy)(struct pn_engine *e);
    int (*set_slot)(struct pn_engine *e, const struct pn_memslot *slot);
    /* Device and loader access to guest memory, seen by dirty logs and code tracking. write
     * with buf NULL: the bytes have been changed where they are. */
    size_t (*read_phys)(struct pn_engine *e, pn_gpa gpa, void *buf, size_t size);
    size_t (*write_phys)(struct pn_engine *e, pn_gpa gpa, const void *buf, size_t size);
    /* Run one vCPU until virtual time `deadline` (ns) or an exit. */
    enum pn_exit_reason (*run)(struct pn_engine *e, unsigned cpu, uint64_t deadline);
    void (*kick)(struct pn_engine *e, unsigned cpu); /* any thread, or a signal handler */
    void (*interrupt)(struct pn_engine *e,
                      unsigned cpu); /* intr_peek may answer otherwise now */
    int (*irq)(struct pn_engine *e, unsigned gsi, int level); /* 0 or -errno */
    /* A message-signalled interrupt. Return: > 0: delivered; 0: blocked; -errno. */
    int (*msi)(struct pn_engine *e, uint64_t address, uint32_t data);
    /* From now on (on), or no longer, the guest's writes to gpa, of any size, are adds to this
     * eventfd, make no exit and are not the bus's. NULL: the engine cannot. Return: 0 or -errno. */
    int (*bell)(struct pn_engine *e, int fd, pn_gpa gpa, bool on);
    void (*nmi)(struct pn_engine *e, unsigned cpu);
    void (*unhalt)(struct pn_engine *e, unsigned cpu); /* HLT is over, without an event */
    /* Threaded engines: their interrupt controllers and 8254. lines: levels of the gsis.
     */
    int (*get_chips)(struct pn_engine *e, struct pn_chips *s); /* 0 or -errno */
    int (*set_chips)(struct pn_engine *e, const struct pn_chips *s, uint32_t lines);
    /* Its 8254 raises no interrupt (on), or does so again. NULL: it has none. */
    void (*pit_mute)(struct pn_engine *e, bool on);
    void (*set_deadline)(struct pn_engine *e,
                         uint64_t deadline); /* inside run, from the bus */
    uint64_t (*now)(struct pn_engine *e);    /* virtual ns */
    /* HLT: let the virtual time of every vCPU that is behind `until` reach it. */
    void (*skip)(struct pn_engine *e, uint64_t until);
    /* Between two runs: the virtual time of every vCPU is `to` again, which has been. States
     * that are set afterwards are of that time; insns goes on. NULL: time cannot. */
    void (*rewind)(struct pn_engine *e, uint64_t to);
    /* Between two runs: from now on stop where d says (NULL: nowhere), and after one
     * instruction if step. A vCPU that stopped passes the breakpoint that it stands at. d
     * stays the caller's, who tells of every change. NULL: the engine has no debugging.
     * Return: 0, or -ENOSPC: more than the engine can have. */
    int (*set_debug)(struct pn_engine *e, unsigned cpu, const struct pn_debug *d,
                     bool step);
    /* 0: as struct pn_debug says. Else so many breakpoints and watchpoints together, and
     * watchpoints are of 1, 2, 4 or 8 bytes, aligned: the processor's debug registers. */
    unsigned debug_slots;
    /* After PN_EXIT_DEBUG. */
    void (*debug_stop)(struct pn_engine *e, unsigned cpu, struct pn_debug_stop *stop);
    /* One CPUID leaf as the guest sees it; loaders ask it what to enter with. */
    void (*cpuid)(struct pn_engine *e, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
    int (*get_state)(struct pn_engine *e, unsigned cpu, struct pn_cpu_state *s);
    int (*set_state)(struct pn_engine *e, unsigned cpu, const struct pn_cpu_state *s);
    /* INIT, between two runs; wait: for SIPI (SDM volume 3, "Processor State After
     * Reset"). Return: false: the vCPU is in VMX operation, and goes on. And SIPI, for a vCPU
     * that waits. */
    bool (*init)(struct pn_engine *e, unsigned cpu, bool wait);
    void (*sipi)(struct pn_engine *e, unsigned cpu, uint8_t vector);
    uint64_t (*insns)(struct pn_engine *e); /* retired, all vCPUs; 0: not known */
    /* A vCPU's TSC when now() was `now`, a moment ago at most. */
    uint64_t (*tsc)(struct pn_engine *e, unsigned cpu, uint64_t now);
    struct pn_stats *(*stats)(struct pn_engine *e, unsigned cpu);
    /* In a process that was forked from the engine's, before any vCPU runs there and while
     * none runs in the other: what both share becomes this one's own. NULL: the engine
     * cannot be forked. Return: 0 or -errno. */
    int (*forked)(struct pn_engine *e);
    /* Our MMU's part of a vCPU, to be asked (penumbra/explain.h) while no vCPU runs; NULL:
     * the hypervisor translates. */
    struct pn_mmu_vcpu *(*mmu)(struct pn_engine *e, unsigned cpu);
    /* Does this engine move that counter? NULL: every one. The report shows no zeros for
     * what nobody counts. */
    bool (*counts)(enum pn_stat id);
    /* The hypervisor's own counters; NULL: it has none. */
    void (*foreign_stats)(struct pn_engine *e, pn_foreign_stat_fn fn, void *opaque);
    /* One line: which MMU translates, and how that is known. */
    void (*describe)(struct pn_engine *e, char *buf, size_t size);
    /* Why this engine cannot boot Linux on this host, one clause; NULL: it can. */
    const char *(*no_linux)(struct pn_engine *e);
    /* Can this engine find written pages that way? */
    bool (*has_tracker)(enum pn_dirty_tracker tracker);
    /* The log goes on by another of its own trackers, while no vCPU runs; nothing that was written is
     * lost. NULL: it cannot. Return: 0; -ENOTSUP; -EINVAL: it has it not; -ENOMEM: by wp. */
    int (*set_tracker)(struct pn_engine *e, enum pn_dirty_tracker tracker);
    /* The engine's part of penumbra/dirty.h, from one thread, vCPUs running or not.
     * Every word of *bitmap is written. Return: pages in it, or -errno. */
    long (*dirty_harvest)(struct pn_engine *e, uint32_t slot, uint64_t *bitmap,
                          size_t words);
    void (*dump)(struct pn_engine *e, unsigned cpu, FILE *out);
    /* In a signal handler, on the thread that is inside run() or between two: pc: where the
     * signal came. NULL: the engine cannot tell. */
    void (*where)(struct pn_engine *e, uint64_t pc, struct pn_where *out);
    /* While no vCPU runs: what is translated now. NULL: the engine translates nothing. */
    void (*blocks)(struct pn_engine *e, pn_block_fn fn, void *opaque);
    /* The run is over (or goes on under another engine): what is still on its way into
     * the rings goes in. NULL: everything is there at once. */
    void (*trace_end)(struct pn_engine *e);
    /* Between two calls, true and false, this engine fills no ring. NULL: it fills them in run()
     * alone. */
    void (*trace_hold)(struct pn_engine *e, bool hold);
    /* Why the rings hold no events of this engine; NULL: they do. */
    const char *(*trace_problem)(struct pn_engine *e);
    const char *(*error)(struct pn_engine *e); /* after PN_EXIT_ERROR or SHUTDOWN */
};

/* Return: the engine for a --mmu name, or NULL. */
const struct pn_engine_ops *pn_engine_find(const char *name);
/* Engine i of the list, the default first; NULL beyond the last. */
const struct pn_engine_ops *pn_engine_at(unsigned i);
