/* SPDX-License-Identifier: MIT */
/*
 * --handover: the machine goes on under another engine. Between two runs, when every vCPU
 * stands between two instructions, its state is read from one engine and set in another
 * that maps the same memory. Devices stay as they are; the interrupt controllers and the
 * 8254 move where one of the two engines has its own.
 *
 * Invariants
 * 1. Time goes on: the new engine begins at the clock's now.
 * 2. The old engine is kept, with its counters, until the machine is destroyed; it never
 *    runs again.
 * 3. When anything fails the machine has ended with an error; nothing half-moved runs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine/bells.h"
#include "machine/pci.h"
#include "machine/state.h"

#define PIT_LINE 1u /* gsi 0: driven by the 8254, wherever that is */

/* ---- When ---- */

static const struct machine_handover *next(const struct machine *m) {
    return m->switches < m->cfg.handovers ? &m->cfg.handover[m->switches] : NULL;
}

void machine_call_out(struct machine *m) {
    if (machine_has_threads(m)) {
        for (unsigned i = 0; i < m->cfg.cpus; i++)
            m->ops->kick(m->engine, i);
        pthread_cond_signal(&m->wake);
    } else if (m->running) {
        machine_end_turn(m);
    }
}

/* Leave the run loop. */
static void leave(struct machine *m) {
    m->leave = true;
    machine_call_out(m);
}

static void on_timer(void *opaque) {
    leave(opaque);
}

void machine_handover_mark(struct machine *m) {
    if (next(m) && !next(m)->at_ns && !m->ended)
        leave(m);
}

void machine_handover_arm(struct machine *m) {
    clock_timer_init(&m->handover_timer, on_timer, m);
    if (next(m) && next(m)->at_ns)
        clock_arm(&m->clock, &m->handover_timer, next(m)->at_ns);
}

/* ---- Out of the old engine ---- */

static uint64_t apic_base(const struct pn_cpu_state *s, unsigned cpu) {
    if (s->msr_known >> PN_MSR_apic_base & 1)
        return s->msr[PN_MSR_apic_base];
    return APIC_BASE_RESET | APIC_BASE_EN | (cpu ? 0 : APIC_BASE_BSP);
}

int machine_pack(struct machine *m, bool chips, struct parcel *p) {
    for (unsigned i = 0; i < m->cfg.cpus; i++) {
        struct pn_cpu_state *s = &p->cpu[i];
        int rc = m->ops->get_state(m->engine, i, s);
        if (rc)
            return rc;
        if (m->ops->threaded || !chips)
            continue;
        intc_get_lapic(m->intc, i, s->lapic);
        s->has_lapic = 1;
    }
    if (m->ops->threaded)
        return m->ops->get_chips(m->engine, &p->chips);
    intc_get_chips(m->intc, &p->chips);
    dev_save(m->pit, &p->chips.pit);
    return 0;
}

/* ---- Into the new one ---- */

static int unpack_chips(struct machine *m, const struct parcel *p) {
    int rc = wiring_create_chips(m);
    if (rc)
        return rc;
    int level = pit_adopt(m->pit, &p->chips.pit);
    if (level < 0)
        return level;
    m->lines = (m->lines & ~PIT_LINE) | (level ? PIT_LINE : 0);
    rc = intc_set_chips(m->intc, &p->chips, m->lines);
    for (unsigned i = 0; rc == 0 && i < m->cfg.cpus; i++)
        intc_set_lapic(m->intc, i, apic_base(&p->cpu[i], i), p->cpu[i].lapic);
    return rc;
}

/* The machine's own controllers come, go or stay. */
static int move_chips(struct machine *m, const struct pn_engine_ops *from,
                      const struct parcel *p) {
    if (!m->ops->threaded)
        return from->threaded ? unpack_chips(m, p) : 0;
    if (!from->threaded)
        wiring_destroy_chips(m);
    int rc = m->ops->set_chips(m->engine, &p->chips, m->lines & ~PIT_LINE);
    if (rc == 0 && m->hpet_legacy)
        m->ops->pit_mute(m->engine, true);
    return rc;
}

int machine_unpack(struct machine *m, const struct pn_engine_ops *from,
                   const struct parcel *p) {
    int rc = move_chips(m, from, p);
    for (unsigned i = 0; rc == 0 && i < m->cfg.cpus; i++) {
        rc = m->ops->set_state(m->engine, i, &p->cpu[i]);
        m->cpu[i] = (struct machine_cpu){
            .state = p->cpu[i].activity == PN_WAITS_SIPI ? CPU_WAIT_SIPI : CPU_RUNNABLE,
            .held = p->cpu[i].vmx_init,
            .sipi = -1};
    }
    return rc;
}

bool machine_vmx_stays(bool from_host, bool to_host, const struct pn_cpu_state *cpu,
                       unsigned cpus) {
    bool enabled = false;
    for (unsigned i = 0; i < cpus; i++)
        enabled |=
            cpu[i].in_vmx || (cpu[i].msr_known >> PN_MSR_feature_control & 1 &&
                              cpu[i].msr[PN_MSR_feature_control] & FEATURE_CONTROL_VMXON);
    return enabled && from_host != to_host;
}

/* What of SVM the guest has seen, it finds under the engine that runs now. */
static int check_svm(struct machine *m, const struct machine_past *from, struct err *e) {
    uint32_t was[4], is[4];
    from->ops->cpuid(from->engine, 0x8000000au, 0, was);
    m->ops->cpuid(m->engine, 0x8000000au, 0, is);
    uint32_t gone = was[3] & ~is[3];
    return gone ? err_set(e, -ENOTSUP,
                          "handover: SVM's features 0x%x (CPUID 8000000Ah, EDX), which "
                          "the guest has seen, are not there under %s: leave them out "
                          "of --cpu (--cpu help names them)",
                          gone, m->ops->name)
                : 0;
}

/* INIT and SIPI that have arrived and are not done yet: the state must show them. */
static void settle(struct machine *m) {
    for (unsigned i = 0; !m->ops->threaded && i < m->cfg.cpus; i++)
        machine_settle_cpu(m, i);
}

static int move(struct machine *m, const struct pn_engine_ops *to, struct parcel *p,
                struct err *e) {
    const struct pn_engine_ops *from = m->ops;
    settle(m);
    /* Between two engines without interrupt controllers of their own, those stay where
     * they are. */
    int rc = machine_pack(m, to->threaded, p);
    if (rc)
        return err_sys(e, rc, "handover: the state under %s", from->name);
    if (machine_vmx_stays(from->host_cpu, to->host_cpu, p->cpu, m->cfg.cpus))
        return err_set(e, -ENOTSUP, "handover: " MACHINE_VMX_STAYS);
    uint64_t now = clock_now(&m->clock);
    if (from->trace_end)
        from->trace_end(m->engine);
    bells_leave(m);
    m->past[m->switches] = (struct machine_past){from, m->engine};
    m->ops = to;
    m->engine = NULL;
    rc = machine_create_engine(m, &m->past[m->switches], now, e);
    if (rc) {
        m->ops = from; /* destroyed as the current engine */
        m->engine = m->past[m->switches].engine;
        return rc;
    }
    m->switches++;
    rc = check_svm(m, &m->past[m->switches - 1], e);
    if (rc)
        return rc;
    bells_again(m);
    m->cpuid_of_host |= m->ops->host_cpu;
    rc = m->window_size ? window_add_again(m) : 0;
    if (rc)
        return err_sys(e, rc, "handover: the window's memslot");
    rc = machine_more_memory_again(m);
    if (rc)
        return err_sys(e, rc, "handover: the memslots above RAM");
    rc = machine_unpack(m, from, p);
    return rc ? err_sys(e, rc, "handover: %s does not take the state of %s", to->name,
                        from->name)
              : 0;
}

int machine_handover(struct machine *m, struct err *e) {
    const struct machine_handover *h = next(m);
    uint64_t start = host_ns();
    struct machine_switch *s = &m->switched[m->switches];
    struct parcel *p = calloc(1, sizeof(*p) + m->cfg.cpus * sizeof(p->cpu[0]));
    if (!p)
        return err_set(e, -ENOMEM, "out of memory");
    *s = (struct machine_switch){
        .from = m->ops->name, .to = h->to->name, .at_ns = clock_now(&m->clock)};
    clock_cancel(&m->clock, &m->handover_timer);
    int rc = move(m, h->to, p, e);
    free(p);
    s->host_ns = host_ns() - start;
    m->leave = false;
    if (rc == 0) {
        m->ops->describe(m->engine, s->detail, sizeof(s->detail));
        machine_handover_arm(m);
    }
    return rc;
}

const struct machine_switch *machine_switches(const struct machine *m, unsigned *count) {
    *count = m->switches;
    return m->switched;
}

struct pn_engine *machine_engine_at(struct machine *m, unsigned i,
                                    const struct pn_engine_ops **ops) {
    if (i > m->switches)
        return NULL;
    *ops = i < m->switches ? m->past[i].ops : m->ops;
    return i < m->switches ? m->past[i].engine : m->engine;
}
