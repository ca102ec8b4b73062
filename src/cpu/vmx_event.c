/* SPDX-License-Identifier: MIT */
/*
 * Events while L2 runs: which of them exit, which wait, and what VM entry injects.
 *
 * Sources: SDM volume 3, "Exceptions", "Event Delivery" and "Other Causes of VM Exits" of
 * "VMX Non-Root Operation", "Event Injection", "Information for VM Exits That Occur During
 * Event Delivery", "Exit Qualification for EPT Violations".
 */
#include "cpu/vmx.h"

/* ---- What is in flight ---- */

static uint64_t event_word(unsigned vector, unsigned type, bool has_error,
                           uint32_t error) {
    uint64_t w = VMX_EVENT_VALID | vector | (uint64_t)type << VMX_EVENT_TYPE_SHIFT;
    return has_error ? w | VMX_EVENT_ERROR | (uint64_t)error << 32 : w;
}

static unsigned type_of(const struct event *ev) {
    switch (ev->kind) {
    case EVENT_EXTERNAL:
        return ev->vector == VEC_NMI ? VMX_TYPE_NMI : VMX_TYPE_EXTERNAL;
    case EVENT_SOFT:
        return ev->vector == VEC_BP || ev->vector == VEC_OF ? VMX_TYPE_SOFT_EXCEPTION
                                                            : VMX_TYPE_SOFT;
    case EVENT_ICEBP:
        return VMX_TYPE_ICEBP;
    default:
        return VMX_TYPE_EXCEPTION;
    }
}

void vmx_in_flight(struct cpu *cpu, const struct event *ev) {
    bool soft = ev->kind == EVENT_SOFT || ev->kind == EVENT_ICEBP;
    cpu->vmx.in_flight = event_word(ev->vector, type_of(ev), ev->has_error, ev->error);
    cpu->vmx.in_flight_len = soft ? (uint32_t)(ev->rip - cpu->rip) & 15 : 0;
}

/* ---- Exceptions ---- */

/* Is it IRET that faults now, and has it unblocked NMIs (SDM volume 3, "Information About NMI
 * Unblocking Due to IRET")? */
static bool unblocked(const struct cpu *cpu) {
    return cpu->vmx.iret_at == cpu_insns(cpu) + 1 && !cpu->vmx.in_flight;
}

/* Of APIC-access exits: accesses by guest-physical address, while an event is delivered and not. */
#define APIC_PHYSICAL_EVENT VMX_SAYS(APIC_TYPE, 10)
#define APIC_PHYSICAL       VMX_SAYS(APIC_TYPE, 15)

/* An EPT violation becomes a #VE of L2's, where L1 has it so. Return: it does. */
static bool make_ve(struct cpu *cpu, const struct pn_fault *f, const struct vmx_exit *x) {
    struct ve_info ve = {.busy = 1};
    struct vmcs v;
    if (!vmx_proc2(cpu, VMX_PROC2_VE) || !(f->error & PN_NPF_CONVERTIBLE) ||
        !(cpu->cr0 & CR0_PE) || cpu->vmx.in_flight)
        return false;
    pn_mmu_read_phys(cpu->mmu, cpu->vmx.ctl.ve_at, &ve, sizeof ve);
    if (ve.busy)
        return false;
    vmcs_read(cpu, cpu->vmx.vmcs, &v);
    ve = (struct ve_info){.reason = x->reason,
                          .busy = UINT32_MAX,
                          .qualification = x->qualification,
                          .linear = x->linear,
                          .physical = x->physical,
                          .eptp_index = (uint16_t)v.f[VMCS_EPTP_INDEX]};
    pn_mmu_vcpu_write(cpu->vmmu, cpu->vmx.ctl.ve_at, &ve,
                      offsetof(struct ve_info, eptp_index) + sizeof ve.eptp_index);
    pn_count(cpu->stats, virtualization_exceptions);
    cpu_raise(cpu, VEC_VE);
    return true;
}

static enum cpu_rc leave_by_ept(struct cpu *cpu, const struct pn_fault *f) {
    bool table = f->error & PN_NPF_TABLE, write = f->error & PN_PF_WRITE;
    struct vmx_exit x = {.reason = VMX_EXIT_EPT_VIOLATION, .physical = f->address};
    if (f->error & PN_NPF_APIC) {
        x = (struct vmx_exit){.reason = VMX_EXIT_APIC_ACCESS,
                              .qualification = f->address};
        x.insn_len = cpu_insn_len(cpu); /* hypervisors rely on it */
        if (table)
            x.qualification = cpu->vmx.in_flight ? APIC_PHYSICAL_EVENT : APIC_PHYSICAL;
        return vmx_leave(cpu, &x);
    }
    if (f->error & PN_PF_RSVD) {
        x.reason = VMX_EXIT_EPT_MISCONFIG;
        x.insn_len = cpu_insn_len(cpu);
        return vmx_leave(cpu, &x);
    }
    if (f->error & PN_NPF_LOG_FULL) {
        x = (struct vmx_exit){.reason = VMX_EXIT_PML_FULL,
                              .qualification = VMX_SAYS(PML_UNBLOCKED, unblocked(cpu))};
        return vmx_leave(cpu, &x);
    }
    bool fetch = f->error & PN_PF_FETCH;
    x.qualification = VMX_SAYS(EPT_FETCH, fetch) | VMX_SAYS(EPT_WRITE, !fetch && write) |
                      VMX_SAYS(EPT_READ, !fetch && (!write || table)) |
                      VMX_SAYS(EPT_RIGHTS, f->error >> PN_NPF_RIGHTS_SHIFT & 15) |
                      VMX_SAYS(EPT_SHADOW_STACK, (f->error & PN_PF_SS) != 0) |
                      VMX_SAYS(EPT_UNBLOCKED, unblocked(cpu));
    if (f->error & PN_NPF_LINEAR) {
        x.linear = f->linear;
        x.qualification |= VMX_SAYS(EPT_LINEAR, 1) | VMX_SAYS(EPT_FINAL, !table);
    }
    return make_ve(cpu, f, &x) ? cpu_deliver_fault(cpu) : vmx_leave(cpu, &x);
}

static bool exception_exits(const struct cpu *cpu, const struct pn_fault *f) {
    const struct vmx_ctl *c = &cpu->vmx.ctl;
    bool bit = c->exceptions >> (f->vector & 31) & 1;
    if (f->vector != VEC_PF)
        return bit;
    return bit == ((f->error & c->pf_mask) == c->pf_match);
}

bool vmx_fault(struct cpu *cpu, const struct pn_fault *f, enum cpu_rc *rc) {
    if (f->vector == PN_VEC_NPF) {
        *rc = leave_by_ept(cpu, f);
        return true;
    }
    if (!exception_exits(cpu, f))
        return false;
    struct vmx_exit x = {
        .reason = VMX_EXIT_EXCEPTION,
        .event = event_word(f->vector, VMX_TYPE_EXCEPTION, f->has_error, f->error)};
    if (f->vector == VEC_PF || f->vector == VEC_DB)
        x.qualification = f->address;
    if (f->vector == VEC_DF)
        cpu->vmx.in_flight = 0; /* no event is behind this one */
    else
        x.event |= VMX_SAYS(EVENT_UNBLOCKED, unblocked(cpu));
    *rc = vmx_leave(cpu, &x);
    return true;
}

bool vmx_shutdown(struct cpu *cpu, enum cpu_rc *rc) {
    cpu->vmx.in_flight = 0;
    *rc = vmx_leave(cpu, &(const struct vmx_exit){.reason = VMX_EXIT_TRIPLE_FAULT});
    return true;
}

/* ---- Injection ---- */

enum cpu_rc vmx_inject(struct cpu *cpu, const struct vmcs *v) {
    uint32_t e = (uint32_t)v->f[VMCS_ENTRY_EVENT];
    unsigned type = e >> VMX_EVENT_TYPE_SHIFT & 7;
    struct event ev = {.vector = (uint8_t)e, .rip = cpu->rip};
    pn_count(cpu->stats, world_injections);
    if (type == VMX_TYPE_OTHER) {
        cpu->vmx.trap = 1;
        return CPU_JUMP;
    }
    switch (type) {
    case VMX_TYPE_NMI:
        ev.kind = EVENT_EXTERNAL;
        cpu->nmi_blocked = 1;
        break;
    case VMX_TYPE_EXCEPTION:
        ev.kind = EVENT_FAULT;
        ev.has_error = e & VMX_EVENT_ERROR;
        ev.error = (uint32_t)v->f[VMCS_ENTRY_ERROR];
        break;
    case VMX_TYPE_SOFT:
    case VMX_TYPE_SOFT_EXCEPTION:
    case VMX_TYPE_ICEBP:
        ev.kind = type == VMX_TYPE_ICEBP ? EVENT_ICEBP : EVENT_SOFT;
        ev.rip += v->f[VMCS_ENTRY_INSN_LEN];
        break;
    default:
        ev.kind = EVENT_EXTERNAL;
    }
    return event_chain(cpu, ev);
}

/* ---- What comes between two instructions ---- */

void vmx_landed(struct cpu *cpu) {
    cpu->vmx.in_flight = cpu->vmx.iret_at = 0;
    cpu->vmx.trap |= vmx_proc(cpu, VMX_PROC_TRAP);
    cpu->intr_line |= cpu->vmx.trap;
}

static enum cpu_rc leave_plain(struct cpu *cpu, enum vmx_reason reason) {
    return vmx_leave(cpu, &(const struct vmx_exit){.reason = reason});
}

static enum cpu_rc poll_nmi(struct cpu *cpu) {
    bool exits = vmx_pin(cpu, VMX_PIN_NMI);
    bool own = cpu->nmi_blocked && !vmx_pin(cpu, VMX_PIN_VIRTUAL_NMI);
    if (!cpu->nmi_pending || own || (!exits && cpu_shadowed(cpu)))
        return CPU_NEXT;
    cpu->nmi_pending = 0;
    if (!exits)
        return cpu_deliver_nmi(cpu);
    struct vmx_exit x = {.reason = VMX_EXIT_EXCEPTION,
                         .event = event_word(VEC_NMI, VMX_TYPE_NMI, false, 0)};
    return vmx_leave(cpu, &x);
}

/* The trap-like exit that an instruction noted. */
static enum cpu_rc leave_after(struct cpu *cpu) {
    const struct vmx_exit x = {.reason = cpu->vmx.after >> 16,
                               .qualification = cpu->vmx.after & 0xffff};
    return vmx_leave(cpu, &x);
}

static bool open(const struct cpu *cpu) {
    return cpu->sys_flags & FL_IF && !cpu_shadowed(cpu);
}

/* What a virtual interrupt that is recognized comes to now. */
static enum cpu_rc poll_virtual(struct cpu *cpu) {
    return cpu->vmx.virtual && open(cpu) ? vmx_deliver_virtual(cpu) : CPU_NEXT;
}

static enum cpu_rc take_interrupt(struct cpu *cpu) {
    struct vmx_exit x = {.reason = VMX_EXIT_INTERRUPT};
    int vector;
    if (!vmx_pin(cpu, VMX_PIN_EXTERNAL)) {
        vector = cpu->bus->intr_ack(cpu->bus->opaque, cpu->apic_id);
        return vector >= 0 ? cpu_deliver_intr(cpu, (uint8_t)vector) : CPU_NEXT;
    }
    if (vmx_control(cpu->vmx.ctl.exit, VMX_EXIT_ACK_INTR)) {
        vector = cpu->bus->intr_ack(cpu->bus->opaque, cpu->apic_id);
        if (vector < 0)
            return CPU_NEXT;
        if (vmx_pin(cpu, VMX_PIN_POSTED) && vector == cpu->vmx.ctl.posted_vector) {
            cpu->bus->intr_eoi(cpu->bus->opaque, cpu->apic_id);
            vmx_take_posted(cpu);
            return poll_virtual(cpu);
        }
        x.event = event_word((unsigned)vector, VMX_TYPE_EXTERNAL, false, 0);
    }
    return vmx_leave(cpu, &x);
}

enum cpu_rc vmx_poll(struct cpu *cpu) {
    bool held = cpu_shadowed(cpu) && cpu->intr_shadow == PN_SHADOW_MOV_SS;
    bool nmi_window = vmx_proc(cpu, VMX_PROC_NMI_WINDOW);
    bool intr_window = vmx_proc(cpu, VMX_PROC_INTR_WINDOW);
    if (unlikely(cpu->inject.any))
        return cpu_poll_injected(cpu);
    if (unlikely(cpu->vmx.after))
        return leave_after(cpu);
    if (unlikely(cpu->vmx.init)) {
        cpu->vmx.init = 0;
        return leave_plain(cpu, VMX_EXIT_INIT);
    }
    if (unlikely(cpu->vmx.trap))
        return leave_plain(cpu, VMX_EXIT_TRAP);
    if (unlikely(cpu->db_pending && !held)) {
        uint32_t bits = cpu->db_pending;
        cpu->db_pending = 0;
        cpu_raise_debug(cpu, bits);
        return cpu_deliver_fault(cpu);
    }
    if (cpu->vmx.timer && !vmx_timer_left(cpu))
        return leave_plain(cpu, VMX_EXIT_TIMER);
    if (nmi_window && !cpu->nmi_blocked && !cpu_shadowed(cpu))
        return leave_plain(cpu, VMX_EXIT_NMI_WINDOW);
    enum cpu_rc rc = poll_nmi(cpu);
    if (rc != CPU_NEXT)
        return rc;
    if (intr_window && open(cpu))
        return leave_plain(cpu, VMX_EXIT_INTR_WINDOW);
    if ((rc = poll_virtual(cpu)) != CPU_NEXT)
        return rc;
    if (cpu->bus->intr_peek(cpu->bus->opaque, cpu->apic_id) >= 0 &&
        (vmx_pin(cpu, VMX_PIN_EXTERNAL) || open(cpu)) &&
        (rc = take_interrupt(cpu)) != CPU_NEXT)
        return rc;
    cpu->intr_line = nmi_window || intr_window || cpu->vmx.virtual ||
                     cpu->bus->intr_peek(cpu->bus->opaque, cpu->apic_id) >= 0;
    return CPU_NEXT;
}
