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
#ifndef MACHINE_STATE_H
#define MACHINE_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/hostmem.h"
#include "dev/dev.h"
#include "machine/internal.h"

enum cpu_state { CPU_RUNNABLE, CPU_HALTED, CPU_WAIT_SIPI };

struct machine_cpu {
    enum cpu_state state;
    bool init; /* INIT has arrived */
    int sipi;  /* vector, or -1 */
};

struct machine {
    struct machine_config cfg;
    const struct pn_engine_ops *ops;
    struct pn_engine *engine;
    struct pn_bus pn_bus;
    struct hostmem ram;
    struct machine_cpu cpu[MACHINE_CPUS_MAX];

    struct dev_bus *bus;
    struct clock clock;
    struct dev_host dev_host;
    struct intc *intc;
    struct serial *serial;
    struct pit *pit;
    struct rtc *rtc;
    struct acpi_pm *acpi_pm;
    struct misc *misc;
    struct fw_cfg *fw_cfg;
    struct testdev *testdev;
    struct mark *mark;

    struct hostmem window; /* window.c; base NULL: never asked for */
    pn_gpa window_gpa;
    uint64_t window_size; /* 0: absent */

    uint64_t now_max;  /* see invariant 2 */
    unsigned current;  /* the vCPU inside run */
    unsigned turn;     /* the vCPU that is looked at first for the next turn */
    bool running;      /* a vCPU is inside run */
    uint64_t deadline; /* of that run */

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

    /* Threaded engines (machine_threads.c): guards everything above; else unused. */
    pthread_mutex_t lock;
    pthread_cond_t wake; /* a timer moved, or the machine ended */
    bool leaked;         /* a vCPU thread is still inside: nothing may be freed */
};

/* wiring.c. Return: 0, or -errno with a line in e. */
int wiring_create(struct machine *m, struct err *e);
void wiring_destroy(struct machine *m);
void wiring_bus(struct machine *m, struct pn_bus *bus); /* the engine's view of us */

/* Hand console input to the UART. */
void machine_feed_serial(struct machine *m);
/* window.c: a mark has come; the answer is for the guest. */
uint32_t machine_mark(void *opaque, uint32_t value);
/* machine_threads.c: run a threaded engine to its end. Return: 0, or -errno and a line.
 */
int machine_run_threads(struct machine *m, struct err *e);

/* The first end counts. */
void machine_end_with(struct machine *m, enum machine_end end, unsigned code);

#endif
