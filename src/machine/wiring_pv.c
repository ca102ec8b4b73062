/* SPDX-License-Identifier: MIT */
/* How the paravirtual interface (pv.c) reaches the machine around it. */
#include <errno.h>

#include "machine/state.h"

static uint64_t pv_tsc(void *o, unsigned cpu, uint64_t now) {
    struct machine *m = o;
    return m->ops->tsc(m->engine, cpu, now);
}

static bool pv_wake(void *o, unsigned cpu) {
    struct machine *m = o;
    if (m->cpu[cpu].state != CPU_HALTED)
        return false;
    m->ops->unhalt(m->engine, cpu);
    machine_wake(m, cpu);
    return true;
}

static void pv_yield_to(void *o, unsigned cpu) {
    struct machine *m = o;
    if (cpu == m->current || m->cpu[cpu].state != CPU_RUNNABLE)
        return;
    m->turn = cpu;
    machine_end_turn_by(m, m->ops->now(m->engine));
}

static bool pv_send(void *o, unsigned cpu, uint32_t low) {
    struct machine *m = o;
    return intc_send(m->intc, cpu, low);
}

int wiring_pv_create(struct machine *m) {
    if (m->pv || !m->cfg.pv)
        return 0;
    const struct pv_config cfg = {
        .features = m->cfg.pv,
        .cpus = m->cfg.cpus,
        .epoch = m->epoch,
        .rings = m->cfg.rings,
        .tsc = pv_tsc,
        .wake = pv_wake,
        .yield_to = pv_yield_to,
        .send = pv_send,
        .opaque = m,
    };
    m->pv = pv_create(&m->env, &cfg);
    return m->pv ? 0 : -ENOMEM;
}
