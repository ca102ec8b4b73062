/* SPDX-License-Identifier: MIT */
/*
 * Run control: a machine that stands still and goes on, for debuggers and monitors.
 *
 *     while (machine_go(m, &stop, err, sizeof(err)) == 0 && stop.why != MACHINE_ENDED)
 *         ... look at it, change it, say where it is to stop ...
 *     machine_finish(m, &result, err, sizeof(err));
 *
 * A machine stands between two instructions of every vCPU, so what is read is consistent,
 * and nothing needs a lock. All calls are of the thread that calls machine_go, and only
 * while the machine stands; machine_ask alone is of any thread.
 *
 * To be stopped changes nothing in the guest: under the engines that are repeatable,
 * instructions, times and events are the same as without. One number is of the software
 * CPU alone: a breakpoint ends a block of translated code, and where the guest then
 * overwrites both parts, an event code_write names one more dropped block.
 *
 * What is changed from outside (registers, memory, the power button) begins the machine's
 * history anew (history.h), where one is kept.
 *
 * Time. Virtual time stands still with the machine; the host's clock (--clock host, kvm)
 * does not.
 */
#pragma once

#include "machine/machine.h"

enum machine_stop_why {
    MACHINE_ENDED, /* machine_finish says of what */
    MACHINE_ASKED, /* by machine_ask or machine_config.attend */
    MACHINE_STEP,
    MACHINE_BREAK,
    MACHINE_WATCH,
    MACHINE_PLACE,  /* where machine_until said */
    MACHINE_OLDEST, /* the two ends of its history (history.h) */
    MACHINE_NEWEST
};
struct machine_stop {
    enum machine_stop_why why;
    unsigned cpu; /* whose stop it is; ENDED and ASKED: the one that ran last */
    pn_gva gva;   /* WATCH: of the watchpoint; BREAK: RIP */
    enum pn_watch_access access;
};

/* Run until the next stop. After MACHINE_ENDED it stays ended.
 * Return: 0 and *stop, or -errno with a line in err: the run failed, and is over. */
int machine_go(struct machine *m, struct machine_stop *stop, char *err, size_t err_size);
/* What comes after the last machine_go: results, the last harvest. failed: what machine_go
 * returned. Return: failed, or -errno with a line in err. */
int machine_finish(struct machine *m, int failed, struct machine_result *result,
                   char *err, size_t err_size);

/* From any thread: let the next machine_go, or the one that runs, return soon. */
void machine_ask(struct machine *m);
/* Between two runs: ACPI's power button, which also wakes a machine that sleeps. */
void machine_press_power(struct machine *m);
/* Is the run to end (machine_quit, or it has ended)? Then machine_go returns at once. */
bool machine_is_over(const struct machine *m);
/* Has somebody asked for its end (machine_quit)? */
bool machine_quits(const struct machine *m);
/* Wait for input, as an idle guest does: at most ns, with the console's keys read. */
void machine_stand(struct machine *m, uint64_t ns);

unsigned machine_cpus(const struct machine *m);
/* Return: 0 or -errno; set: -EINVAL for a state that no CPU can be in. A state that is set
 * flushes TLBs: set only what is to change. */
int machine_get_state(struct machine *m, unsigned cpu, struct pn_cpu_state *s);
int machine_set_state(struct machine *m, unsigned cpu, const struct pn_cpu_state *s);

/*
 * Where the tables of a vCPU in state s lead gva: a walk of its own, without permission
 * checks, accessed bits, TLBs, counters or events. Any tables are safe.
 * Return: false: not mapped (or not canonical).
 */
bool machine_translate(struct machine *m, const struct pn_cpu_state *s, pn_gva gva,
                       pn_gpa *gpa);
/* Guest memory by linear address, in the address space of state s; by physical address
 * where s is NULL. Devices are not read. A write is one by a device: dirty logs, shadow
 * tables and translated code see it. Return: bytes done from the start, up to the first
 * page that is not mapped or no RAM. */
size_t machine_read(struct machine *m, const struct pn_cpu_state *s, uint64_t addr,
                    void *buf, size_t size);
size_t machine_write(struct machine *m, const struct pn_cpu_state *s, uint64_t addr,
                     const void *buf, size_t size);

/* What the thread of machine_go is doing. */
enum machine_doing {
    MACHINE_RUNS,  /* a vCPU is inside the engine */
    MACHINE_WAITS, /* it sleeps, because the guest idles or stands */
    MACHINE_SERVES /* devices, timers, the console */
};
/* In a signal handler on that thread; pc: where the signal came. *where is written unless it
 * serves. With RUNS (outside of a device's callback) and WAITS guest memory can be read.
 * Engines that have `where` alone. */
enum machine_doing machine_doing(const struct machine *m, uint64_t pc,
                                 struct pn_where *where);

/* Breakpoints and watchpoints (penumbra/debug.h) hold for every vCPU. What is there
 * already is no error, nor what is removed and not there. Return: 0; -ENOSPC: no room;
 * -EINVAL: a size; -ENOTSUP: the engine has none. */
int machine_break(struct machine *m, pn_gva rip, bool on);
int machine_watch(struct machine *m, const struct pn_watch *w, bool on);
void machine_break_none(struct machine *m); /* remove all */
/* The next machine_go stops after one instruction of this vCPU, or after an event has been
 * delivered to it; the others run meanwhile as they would. Return: 0 or -ENOTSUP. */
int machine_step(struct machine *m, unsigned cpu);
/* The same of whichever vCPU is the first. */
void machine_step_any(struct machine *m);

/* A place in the life of a machine under a repeatable engine. It comes to each place once, in
 * this order, and a second run of the same guest comes to the same places. */
struct machine_place {
    uint64_t insns;  /* retired since power-on, all vCPUs */
    uint64_t events; /* exceptions and interrupts delivered, all vCPUs */
};
struct machine_place machine_place(struct machine *m);
static inline bool machine_place_before(struct machine_place a, struct machine_place b) {
    return a.insns < b.insns || (a.insns == b.insns && a.events < b.events);
}
/* The next machine_go stops, at the latest, when that many instructions are retired. */
void machine_until(struct machine *m, uint64_t insns);
