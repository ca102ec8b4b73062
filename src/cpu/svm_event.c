/* SPDX-License-Identifier: MIT */
/*
 * Events while L2 runs, or while GIF is clear: which of them exit, which wait, and the
 * virtual interrupt.
 *
 * Sources: APM volume 2, "Exception Intercepts", "Interrupt Intercepts", "Event Injection",
 * "Interrupt and Local APIC Support", "Global Interrupt Flag, STGI and CLGI Instructions".
 */
#include "cpu/svm.h"

/* ---- What is in flight ---- */

static uint64_t injection(const struct event *ev) {
    uint64_t info = INJ_VALID | ev->vector;
    unsigned type = INJ_EXCEPTION;
    if (ev->kind == EVENT_EXTERNAL)
        type = ev->vector == VEC_NMI ? INJ_NMI : INJ_INTR;
    else if (ev->kind == EVENT_SOFT && ev->vector != VEC_BP && ev->vector != VEC_OF)
        type = INJ_SOFT;
    if (ev->has_error)
        info |= INJ_ERROR | SVM_SAYS(INT_CODE, ev->error);
    return info | (uint64_t)type << INJ_TYPE_SHIFT;
}

void svm_in_flight(struct cpu *cpu, const struct event *ev) {
    cpu->svm.in_flight = injection(ev);
}

/* ---- Exceptions ---- */

bool svm_fault(struct cpu *cpu, const struct pn_fault *f, enum cpu_rc *rc) {
    if (f->vector == PN_VEC_NPF) {
        uint64_t where =
            f->error & PN_NPF_TABLE ? SVM_SAYS(NPF_TABLE, 1) : SVM_SAYS(NPF_FINAL, 1);
        *rc = svm_exit(cpu, SVM_EXIT_NPF, (f->error & ~PN_NPF_TABLE) | where, f->address,
                       0);
        return true;
    }
    if (!(cpu->svm.ctl.exceptions >> (f->vector & 31) & 1))
        return false;
    if (f->vector == VEC_DB) {
        /* The hypervisor finds in DR6 what the handler would. */
        cpu->dr[6] = (cpu->dr[6] & ~15ull) | f->address;
        cpu->dr[7] &= ~(uint64_t)DR7_GD;
    }
    *rc = svm_exit(cpu, SVM_EXIT_EXCEPTION + f->vector, f->has_error ? f->error : 0,
                   f->vector == VEC_PF ? f->address : 0, 0);
    return true;
}

bool svm_shutdown(struct cpu *cpu, enum cpu_rc *rc) {
    if (!svm_intercepts(cpu, ICPT_SHUTDOWN))
        return false;
    *rc = svm_exit(cpu, SVM_EXIT_ICPT + ICPT_SHUTDOWN, 0, 0, 0);
    return true;
}

/* ---- Injection ---- */

/* INT3's, INTO's and INT n's handlers return behind the instruction, which is where nRIP says: with
 * NRIP save it is what goes to the stack. KVM, svm_update_soft_interrupt_rip. */
static bool has_next(const struct cpu *cpu, unsigned type, uint8_t vector) {
    bool soft = type == INJ_SOFT ||
                (type == INJ_EXCEPTION && (vector == VEC_BP || vector == VEC_OF));
    return soft && cpu_has(cpu, CPU_F_nrip_save);
}

enum cpu_rc svm_inject(struct cpu *cpu, uint64_t event) {
    unsigned type = event >> INJ_TYPE_SHIFT & 7;
    struct event ev = {.vector = (uint8_t)event, .rip = cpu->rip};
    if (has_next(cpu, type, ev.vector))
        ev.rip = cpu->svm.ctl.next;
    pn_count(cpu->stats, world_injections);
    switch (type) {
    case INJ_NMI:
        ev.vector = VEC_NMI;
        ev.kind = EVENT_EXTERNAL;
        cpu->nmi_blocked = 1;
        break;
    case INJ_EXCEPTION:
        ev.kind = EVENT_FAULT;
        ev.has_error = event & INJ_ERROR;
        ev.error = (uint32_t)(event >> 32);
        break;
    case INJ_SOFT:
        ev.kind = EVENT_SOFT;
        break;
    default:
        ev.kind = EVENT_EXTERNAL;
    }
    return event_chain(cpu, ev);
}

/* ---- Interrupts ---- */

static bool if_set(const struct cpu *cpu) {
    return cpu->sys_flags & FL_IF;
}

/* May a virtual interrupt come now? */
static bool virtual_ready(const struct cpu *cpu) {
    uint64_t c = cpu->svm.int_ctl;
    if (!(c & V_IRQ) || !if_set(cpu) || cpu_shadowed(cpu))
        return false;
    if (c & V_GIF_ENABLE && !(c & V_GIF) && cpu_has(cpu, CPU_F_vgif))
        return false;
    return c & V_IGN_TPR || (c >> V_PRIO_SHIFT & 15) > (c & V_TPR);
}

static enum cpu_rc take_virtual(struct cpu *cpu) {
    if (svm_intercepts(cpu, ICPT_VINTR))
        return svm_exit(cpu, SVM_EXIT_ICPT + ICPT_VINTR, 0, 0, 0);
    cpu->svm.int_ctl &= ~V_IRQ;
    return cpu_deliver_intr(cpu, (uint8_t)(cpu->svm.int_ctl >> V_VECTOR_SHIFT));
}

/* Of L2: the physical interrupt, if its controller has one. */
static enum cpu_rc poll_physical(struct cpu *cpu, bool *waits) {
    *waits = cpu->bus->intr_peek(cpu->bus->opaque, cpu->apic_id) >= 0;
    bool open = cpu->svm.int_ctl & V_INTR_MASKING ? cpu->svm.host_if : if_set(cpu);
    if (!*waits || !open)
        return CPU_NEXT;
    if (svm_intercepts(cpu, ICPT_INTR))
        return svm_exit(cpu, SVM_EXIT_ICPT + ICPT_INTR, 0, 0, 0);
    if (cpu_shadowed(cpu))
        return CPU_NEXT;
    int vector = cpu->bus->intr_ack(cpu->bus->opaque, cpu->apic_id);
    return vector >= 0 ? cpu_deliver_intr(cpu, (uint8_t)vector) : CPU_NEXT;
}

static enum cpu_rc poll_nmi(struct cpu *cpu) {
    if (!cpu->nmi_pending || cpu->nmi_blocked)
        return CPU_NEXT;
    if (svm_intercepts(cpu, ICPT_NMI))
        return svm_exit(cpu, SVM_EXIT_ICPT + ICPT_NMI, 0, 0, 0);
    if (cpu_shadowed(cpu))
        return CPU_NEXT;
    cpu->nmi_pending = 0;
    return cpu_deliver_nmi(cpu);
}

static enum cpu_rc poll_guest(struct cpu *cpu) {
    bool waits;
    enum cpu_rc rc = poll_nmi(cpu);
    if (rc != CPU_NEXT)
        return rc;
    rc = poll_physical(cpu, &waits);
    if (rc != CPU_NEXT)
        return rc;
    if (virtual_ready(cpu))
        return take_virtual(cpu);
    cpu->intr_line = waits || cpu->svm.int_ctl & V_IRQ;
    return CPU_NEXT;
}

void svm_owes(const struct cpu *cpu, struct pn_cpu_state *s) {
    uint64_t event = cpu->svm.entering;
    switch (event >> INJ_TYPE_SHIFT & 7) {
    case INJ_NMI:
        s->nmi_pending = 1;
        break;
    case INJ_EXCEPTION:
        s->exception = (uint8_t)event;
        s->exception_has_error = (event & INJ_ERROR) != 0;
        s->exception_error = (uint32_t)(event >> 32);
        break;
    default:
        s->interrupt = (uint8_t)event;
    }
}

enum cpu_rc svm_poll(struct cpu *cpu) {
    uint64_t event = cpu->svm.entering;
    if (unlikely(event)) {
        cpu->svm.entering = 0;
        return svm_inject(cpu, event);
    }
    if (unlikely(cpu->inject.any))
        return cpu_poll_injected(cpu);
    bool held = cpu_shadowed(cpu) && cpu->intr_shadow == PN_SHADOW_MOV_SS;
    if (unlikely(cpu->db_pending && !held)) {
        uint32_t bits = cpu->db_pending;
        cpu->db_pending = 0;
        cpu_raise_debug(cpu, bits);
        return cpu_deliver_fault(cpu);
    }
    return cpu->svm.guest && cpu->svm.gif ? poll_guest(cpu) : CPU_NEXT;
}
