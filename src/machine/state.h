/* SPDX-License-Identifier: MIT */
/*
 * The machine's own state, shared by machine.c (life), wiring.c (devices and callbacks)
 * and machine_run.c (the run loop).
 *
 * Invariants
 * 1. `end` is set once, by the first thing that ends the machine.
 * 2. Time as devices see it never goes back, although each vCPU has a clock of its own:
 *    `now_max` is the latest time given out.
 * 3. Whatever happens to a vCPU from outside (INIT, SIPI) is noted here and done between
 *    two runs, never inside one.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/hostmem.h"
#include "base/locks.h"
#include "base/parallel.h"
#include "dev/dev.h"
#include "machine/control.h"
#include "machine/internal.h"
#include "machine/pv.h"

#define STEP_NONE (-1)
#define STEP_ANY  (-2)

enum cpu_state { CPU_RUNNABLE, CPU_HALTED, CPU_WAIT_SIPI };

struct machine_cpu {
    enum cpu_state state;
    bool init; /* INIT has arrived */
    bool held; /* one was held back by VMX operation: it may wait for SIPI, halted */
    int sipi;  /* vector, or -1 */
};

/* An engine that ran before a handover. */
struct machine_past {
    const struct pn_engine_ops *ops;
    struct pn_engine *engine;
};

/* What moves from one engine to another. */
struct parcel {
    struct pn_chips chips;
    struct pn_cpu_state cpu[];
};

#define MACHINE_SLOTS 3u /* of RAM */

struct machine {
    struct machine_config cfg;
    const struct pn_engine_ops *ops;
    struct pn_engine *engine;
    struct pn_bus pn_bus;
    struct hostmem ram;
    struct machine_nodes nodes;
    struct machine_cpu cpu[MACHINE_CPUS_MAX];

    struct dev_bus *bus;
    struct clock clock;
    struct dev_env env;
    /* The devices that are more to the machine than their place on the bus. */
    struct intc *intc; /* NULL, and pit: the engine's own */
    struct pit *pit;
    struct ferr *ferr;
    struct misc *misc;
    struct serial *serial;
    struct acpi_pm *pm;
    struct fw_cfg *fw_cfg;
    struct rtc *rtc;
    struct machine_pci *pci;     /* wiring_pci.c; NULL: there is no PCI */
    struct bios *bios;           /* bios.h; NULL: no firmware of its own */
    struct link *links;          /* link.h */
    struct machine_work *work;   /* work.c; NULL: no job was ever given away */
    struct machine_bells *bells; /* bells.c; NULL: no device had one */
    struct pv *pv;               /* NULL: no paravirtual features, or the engine's own */
    uint32_t lines;              /* levels of the gsis, as the devices set them */
    bool hpet_legacy;            /* PIT and RTC move no line: those are the HPET's */
    int64_t epoch;               /* seconds since 1970 at clock 0 */
    bool cpuid_of_host;          /* the guest has seen CPUID of a host's processor */

    struct hostmem window; /* window.c; base NULL: never asked for */
    pn_gpa window_gpa;
    uint64_t window_size; /* 0: absent */

    bool host_clock;       /* time is the host's under the engine that runs now */
    uint64_t now_max;      /* see invariant 2 */
    unsigned current;      /* the vCPU inside run */
    unsigned turn;         /* the vCPU that is looked at first for the next turn */
    bool running;          /* a vCPU is inside run */
    bool waits;            /* the thread sleeps, for the guest idles or stands */
    uint64_t deadline;     /* of that turn */
    uint64_t limit;        /* of that run: not after the deadline */
    uint64_t serve_at;     /* when the console and the limits are looked at next */
    uint64_t insns_before; /* retired before the machine was made (snapshot_state.c) */

    unsigned no_room; /* writes that wait until the host's disk has room */
    bool full;        /* there is one more than when somebody asked last */
    bool ended;
    enum machine_end end;
    unsigned end_code;
    atomic_bool quit;

    uint8_t input[4096]; /* console bytes that the guest has not taken yet */
    size_t input_count;
    bool serial_room;     /* the UART ran empty */
    uint64_t idle_ns;     /* virtual time skipped since the console last moved */
    uint64_t idle_insns;  /* insns() when no vCPU could run last */
    uint64_t stuck_since; /* virtual time from which no instruction was retired */
    unsigned stuck_wakes; /* deadlines that passed since then */
    uint64_t host_start;

    bool is_linux;         /* what was loaded */
    uint64_t kernel_moved; /* struct load */
    char failure[200];     /* END_ERROR: what failed; "" when the engine says it */

    enum { AWAKE, GOES_TO_SLEEP, ASLEEP } sleep; /* sleep.c: ACPI S3 */
    bool wakes;                                  /* what was asleep is to wake */
    struct parcel *power_on;                     /* vCPUs and chips, before any ran */

    uint64_t feeds;                  /* how often the console has been read (history.c) */
    struct machine_history *history; /* NULL: none is kept */

    struct snap_fill *fill;        /* snapshot_fill.c; NULL: memory is there */
    struct machine_saving *saving; /* snapshot_live.c; NULL: there was none */
    struct machine_dirty *dirty;   /* machine_dirty.c; NULL: no dirty log */
    struct machine_point *points;  /* point.c: that it can go back to */
    struct migration *migration;   /* migrate.c; NULL: none */
    struct migrate_in *coming;     /* by post-copy, memory is; NULL: all is there */

    struct {
        struct pn_debug wanted, given[2]; /* given[turn]: what the engine has */
        unsigned turn;
        int step;       /* the vCPU that goes one step, STEP_NONE or STEP_ANY */
        uint64_t until; /* instructions; 0: no end */
    } debug;            /* control.c */
    atomic_bool asked;
    bool begun;               /* machine_go has been called */
    bool mid_turn;            /* a debugger's stop cut a turn: current, to deadline */
    bool stands;              /* the run loop is to return: `stop` says why */
    struct machine_stop stop; /* valid while it stands */
    uint64_t stands_since;    /* host time */

    bool leave; /* the run loop is to return without an end: a handover is due */
    struct clock_timer handover_timer;
    unsigned switches; /* handovers done */
    struct machine_past past[MACHINE_HANDOVERS_MAX];
    struct machine_switch switched[MACHINE_HANDOVERS_MAX];

    /* vCPUs that are threads (machine_threads.c): guards everything above; else unused. */
    pthread_mutex_t lock;
    struct parallel parallel; /* around it, of engines that are not threaded themselves */
    pthread_cond_t wake;      /* a timer moved, or the machine ended */
    pthread_cond_t parked, go; /* a vCPU stands still; it may go on */
    bool stopped;              /* somebody wants every other vCPU to stand still */
    struct threads *threads;   /* NULL: none run */
    bool leaked;               /* a vCPU thread is still inside: nothing may be freed */
};

/* machine.c: RAM as if there were no firmware (bios.h) in it. Return: how many. */
unsigned machine_ram_slots(const struct machine *m,
                           struct pn_memslot slot[MACHINE_SLOTS]);
/* Have the vCPUs threads: the engine's own way, or by cfg.parallel? */
static inline bool machine_in_parallel(const struct machine *m) {
    return m->cfg.parallel && !m->ops->threaded;
}
static inline bool machine_has_threads(const struct machine *m) {
    return m->cfg.parallel || m->ops->threaded;
}
static inline void machine_lock(struct machine *m) {
    pthread_mutex_lock(&m->lock);
    lock_taken(LOCK_MACHINE);
}
static inline void machine_unlock(struct machine *m) {
    lock_given(LOCK_MACHINE);
    pthread_mutex_unlock(&m->lock);
}

/* machine.c. from: where the guest ran so far, or NULL. start_ns: where its time begins.
 * Return: 0, or -errno with a line in e. */
int machine_create_engine(struct machine *m, const struct machine_past *from,
                          uint64_t start_ns, struct err *e);

/* wiring.c. Return: 0, or -errno with a line in e. */
int wiring_create(struct machine *m, struct err *e);
int64_t wiring_epoch(const struct machine *m); /* of a guest that begins now */
void wiring_destroy(struct machine *m);
void wiring_bus(struct machine *m, struct pn_bus *bus); /* the engine's view of us */
/* The machine's own interrupt controllers and 8254, where they are not there yet: not under
 * threaded engines. */
int wiring_create_chips(struct machine *m); /* Return: 0 or -ENOMEM */
void wiring_destroy_chips(struct machine *m);
/* End the running vCPU's turn after this instruction. */
void machine_end_turn(struct machine *m);

/* wiring_pv.c. Return: 0 or -ENOMEM. */
int wiring_pv_create(struct machine *m);

/* A vCPU that was halted may run. */
void machine_wake(struct machine *m, unsigned cpu);
/* End the turn of the running vCPU by then. */
void machine_end_turn_by(struct machine *m, uint64_t time);
/* Hand console input to the UART. */
void machine_feed_serial(struct machine *m);
/* End the run where a quit, --max-insns or --timeout asks for it. */
void machine_check_limits(struct machine *m);
/* window.c: a mark has come; the answer is for the guest. */
uint32_t machine_mark(void *opaque, uint32_t value);
bool window_slot(const struct machine *m, struct pn_memslot *slot); /* false: absent */
struct pn_memslot window_largest(const struct machine *m);
int window_add_again(struct machine *m);   /* to another engine. Return: 0 or -errno */
int window_take_memory(struct machine *m); /* without a slot. Return: 0 or -errno */
/* snapshot_fill.c: before the first instruction. */
void snap_fill_begin(struct machine *m);
/* snapshot_fill.c: the guest gives memory up, which is zeros then. Return: false: it is memory as
 * any other; true: it is zeros, or what is missing there will be. */
bool machine_memory_forget(struct machine *m, uint8_t *at, size_t size);
/* machine_threads.c: run vCPUs that are threads to the end. Return: 0, or -errno and a line.
 */
int machine_run_threads(struct machine *m, struct err *e);
/* Make every vCPU stand still between two instructions (but the caller's own, when that
 * is inside a bus callback), and let them go again. Under m->lock, which is let go
 * meanwhile; nothing to do where no vCPU is a thread.
 * Return: 0, or -ETIMEDOUT with all of them running. */
int machine_stop_world(struct machine *m);
void machine_start_world(struct machine *m);
/* With machine_in_parallel, under the lock: that vCPU's thread, if it waits for something to come,
 * looks whether that has. Where it runs a kick makes it look. */
/* The guest has sent something outside, and an answer may come: the thread that serves looks often
 * again. Does nothing where no vCPU has a thread. */
void machine_look_soon(struct machine *m);
void machine_call_cpu(struct machine *m, unsigned cpu);

/* control.c: tell the engine where it is to stop. Return: 0, or -errno and a line. */
int machine_debug_apply(struct machine *m, struct err *e);
/* machine_run.c: stand now if somebody has asked. Return: does it stand? */
bool machine_asked(struct machine *m);
void machine_attend(
    struct machine *m); /* ask machine_config.attend whether somebody has */
void machine_debug_stop(struct machine *m, unsigned cpu); /* stand: a vCPU has stopped */

/* history.c. due: is the run loop, between two turns, to take a checkpoint? input: what came
 * from outside, for the guest to get it again in the same place: bytes read ahead of feed
 * number `feed`; the time up to which a wait was cut, which is the old one's in the past. */
bool machine_history_due(const struct machine *m);
void machine_history_take(struct machine *m);
void machine_history_input(struct machine *m, uint64_t feed, const uint8_t *bytes,
                           size_t size);
uint64_t machine_history_wait(struct machine *m, uint64_t until);
void machine_history_end(struct machine *m); /* NULL: nothing */

/* machine_run.c: retired under every engine so far, and before. */
uint64_t machine_insns(struct machine *m);
/* machine_run.c: the run of a vCPU has ended that way. Return: 0, or -EIO with a line in e. */
int machine_ran(struct machine *m, unsigned cpu, enum pn_exit_reason why, struct err *e);
/* machine_run.c: where no vCPU can run: will none ever? */
bool machine_is_stuck(struct machine *m);
/* machine_run.c: do what has reached a vCPU from outside (INIT, SIPI). */
void machine_settle_cpu(struct machine *m, unsigned cpu);

/* sleep.c: ACPI S3. keep: before the first vCPU is given its entry. Return: 0, or -errno
 * with a line in e. ask_sleep, ask_wake: what a device says, at any time. */
int machine_sleep_keep(struct machine *m, struct err *e);
void machine_ask_sleep(struct machine *m);
void machine_ask_wake(struct machine *m);
/* Is there something for machine_sleep_turn to do? Then the run loop is to return. */
static inline bool machine_sleep_due(const struct machine *m) {
    return m->sleep == GOES_TO_SLEEP || m->wakes;
}
/* Fall asleep, wake up, or both, between two runs. Return: 0, or -errno and a line. */
int machine_sleep_turn(struct machine *m, struct err *e);

/* nodes.c: after guest memory. */
int nodes_create(struct machine *m, struct err *e);

/* machine_dirty.c. create: after the slots, before anything is loaded. */
int machine_dirty_create(struct machine *m, const struct pn_memslot *slots,
                         unsigned count, struct err *e);
void machine_dirty_begin(struct machine *m);
/* Tell the engine, and the dirty log, where there is one, of the window's slot.
 * Return: 0 or -errno. */
int machine_dirty_window(struct machine *m, const struct pn_memslot *slot);
/* Its memory was written past the engine: a snapshot brings it before there is a slot. */
void machine_dirty_mark_window(struct machine *m, uint64_t page);
void machine_dirty_mark_ram(struct machine *m, uint64_t page);
void machine_dirty_harvest(struct machine *m, const char *by, uint32_t round);
int machine_dirty_finish(struct machine *m, struct err *e);
void machine_dirty_destroy(struct machine *m);

/* Snapshots that a later one can stand on: what was written since each (machine_dirty.c).
 * begin: now is such a moment; *out is NULL without a dirty log. Return: 0 or -errno. Then
 * keep it under the digest of the snapshot's manifest, or drop it. NULL: nothing. */
struct machine_base;
int machine_base_begin(struct machine *m, struct machine_base **out);
void machine_base_keep(struct machine *m, struct machine_base *b, uint64_t digest);
void machine_base_drop(struct machine_base *b);
struct machine_base *machine_base_find(struct machine *m, uint64_t digest);
/* The pages of RAM and of the window that were written since; the base stays what it is.
 * Return: 0 or -errno. */
int machine_base_changed(struct machine_base *b, const uint64_t **ram,
                         const uint64_t **window);
/* What machine_base_changed gave is safe: no change any more. */
void machine_base_taken(struct machine_base *b);
/* What was written so far is no change: memory is again as when it began. */
void machine_base_again(struct machine_base *b);

/* snapshot_live.c: wait for what is on its way, before the dirty log goes. */
void machine_saving_end(struct machine *m);

/* point.c: drop all of them, before the dirty log goes. */
void machine_points_drop(struct machine *m);

/* handover.c. mark: the guest says that it may happen here. */
void machine_handover_mark(struct machine *m);
void machine_handover_arm(struct machine *m);
/* Every vCPU comes out of its run: the current one after this instruction, others soon. */
void machine_call_out(struct machine *m);
/* The vCPUs' state, and with chips that of the interrupt controllers and the 8254; and
 * into the engine that runs now, from one that was `from`. Return: 0 or -errno. */
int machine_pack(struct machine *m, bool chips, struct parcel *p);
int machine_unpack(struct machine *m, const struct pn_engine_ops *from,
                   const struct parcel *p);
int machine_handover(struct machine *m, struct err *e);
/* A guest that may have seen what VMX can do, and that comes from a host's CPU to a software one, or
 * the other way: its VMCSs, and what they may say, would not be what they were. */
bool machine_vmx_stays(bool from_host, bool to_host, const struct pn_cpu_state *cpu,
                       unsigned cpus);
#define MACHINE_VMX_STAYS                                                                \
    "a guest that has enabled VMX goes on under kvm alone, or under shadow and tdp "     \
    "alone"

/* The first end counts. */
void machine_end_with(struct machine *m, enum machine_end end, unsigned code);
/* END_ERROR with a line of the machine's own. */
void machine_fail(struct machine *m, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
