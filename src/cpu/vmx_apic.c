/* SPDX-License-Identifier: MIT */
/*
 * L2's local APIC as its hypervisor virtualizes it: the APIC-access page, x2APIC's MSRs and CR8
 * by the virtual-APIC page, virtual interrupts, and posted ones.
 *
 * Invariants
 * 1. RVI and SVI are in the VMCS at every moment (vmx.h, invariant 2), and the registers in the
 *    virtual-APIC page. vmx.virtual is what the last evaluation came to; vmx_refresh makes one.
 * 2. A trap-like exit is noted in vmx.after by the instruction that causes it, and made before
 *    anything else can come (vmx_poll).
 *
 * Source: SDM volume 3, "APIC Virtualization and Virtual Interrupts".
 */
#include "cpu/control.h"
#include "cpu/turn.h"
#include "cpu/vmx.h"

/* Offsets in the virtual-APIC page. */
enum {
    ID = 0x20,
    VERSION = 0x30,
    TPR = VAPIC_TPR,
    PPR = 0xa0,
    EOI = 0xb0,
    LDR = 0xd0,
    DFR = 0xe0,
    SPURIOUS = 0xf0,
    ISR = 0x100,
    IRR = 0x200,
    ERROR = 0x280,
    ICR = 0x300,
    ICR_HIGH = 0x310,
    LVT = 0x320,
    LVT_LAST = 0x370,
    INITIAL = 0x380,
    DIVIDE = 0x3e0,
    SELF_IPI = 0x3f0
};

/* Of ICR: a self-IPI, fixed and by edge, is this and a vector. */
#define ICR_SELF      0x40000u
#define ICR_SELF_MASK 0xffffb700u

/* ---- The page, and the guest interrupt status ---- */

static uint64_t page_read(struct cpu *cpu, unsigned at, unsigned size) {
    uint64_t v = 0;
    pn_mmu_read_phys(cpu->mmu, cpu->vmx.ctl.vapic + at, &v, size);
    return v;
}
static uint32_t reg_read(struct cpu *cpu, unsigned at) {
    return (uint32_t)page_read(cpu, at, sizeof(uint32_t));
}
static void reg_write(struct cpu *cpu, unsigned at, uint32_t value) {
    pn_mmu_vcpu_write(cpu->vmmu, cpu->vmx.ctl.vapic + at, &value, sizeof value);
}

/* A bit of ISR or IRR: eight registers of 32 bits, 16 bytes apart. */
static void set_vector(struct cpu *cpu, unsigned set, uint8_t vector, bool on) {
    unsigned at = set + vector / 32 * 16;
    uint32_t bit = UINT32_C(1) << vector % 32, v = reg_read(cpu, at);
    reg_write(cpu, at, on ? v | bit : v & ~bit);
}
/* Return: the highest vector of it; 0: there is none. */
static uint8_t highest(struct cpu *cpu, unsigned set) {
    for (unsigned i = 8; i--;) {
        uint32_t v = reg_read(cpu, set + i * 16);
        if (v)
            return (uint8_t)(i * 32 + 31 - (unsigned)__builtin_clz(v));
    }
    return 0;
}

static pn_gpa status_at(const struct cpu *cpu) {
    return cpu->vmx.vmcs + VMCS_AT_FIELDS +
           VMCS_GUEST_INTERRUPT_STATUS * sizeof(uint64_t);
}
struct status {
    uint8_t rvi, svi; /* the highest that is requested, and that is in service */
};
static struct status status_read(struct cpu *cpu) {
    struct status s = {0, 0};
    pn_mmu_read_phys(cpu->mmu, status_at(cpu), &s, sizeof s);
    return s;
}
static void status_write(struct cpu *cpu, struct status s) {
    pn_mmu_vcpu_write(cpu->vmmu, status_at(cpu), &s, sizeof s);
}

/* ---- Virtual interrupts ---- */

/* Evaluation of pending virtual interrupts. */
static void evaluate(struct cpu *cpu) {
    unsigned rvi = status_read(cpu).rvi, ppr = reg_read(cpu, PPR) & 0xff;
    cpu->vmx.virtual = !vmx_proc(cpu, VMX_PROC_INTR_WINDOW) && rvi >> 4 > ppr >> 4;
    cpu->intr_line |= cpu->vmx.virtual;
}

/* PPR virtualization. */
static void make_ppr(struct cpu *cpu) {
    unsigned tpr = reg_read(cpu, TPR) & 0xff, svi = status_read(cpu).svi;
    reg_write(cpu, PPR, tpr >> 4 >= svi >> 4 ? tpr : svi & 0xf0);
}

static enum cpu_rc after(struct cpu *cpu, enum vmx_reason reason,
                         unsigned qualification) {
    cpu->vmx.after = (uint32_t)reason << 16 | qualification;
    cpu->intr_line = 1;
    return CPU_STOP;
}

/* TPR virtualization. */
static enum cpu_rc tpr_written(struct cpu *cpu) {
    if (vmx_proc2(cpu, VMX_PROC2_VIRTUAL_INTERRUPTS)) {
        make_ppr(cpu);
        evaluate(cpu);
    } else if ((reg_read(cpu, TPR) >> 4 & 15) < cpu->vmx.ctl.tpr_threshold) {
        return after(cpu, VMX_EXIT_TPR, 0);
    }
    return CPU_STOP;
}

/* EOI virtualization. */
static enum cpu_rc end_interrupt(struct cpu *cpu) {
    struct status s = status_read(cpu);
    uint8_t vector = s.svi;
    reg_write(cpu, EOI, 0);
    set_vector(cpu, ISR, vector, false);
    s.svi = highest(cpu, ISR);
    status_write(cpu, s);
    make_ppr(cpu);
    if (cpu->vmx.ctl.eoi_exit[vector / 64] >> vector % 64 & 1)
        return after(cpu, VMX_EXIT_EOI, vector);
    evaluate(cpu);
    return CPU_STOP;
}

static void request(struct cpu *cpu, uint8_t vector) {
    struct status s = status_read(cpu);
    s.rvi = s.rvi > vector ? s.rvi : vector;
    status_write(cpu, s);
    evaluate(cpu);
}

static enum cpu_rc ipi_self(struct cpu *cpu, uint8_t vector) {
    set_vector(cpu, IRR, vector, true);
    request(cpu, vector);
    return CPU_STOP;
}

enum cpu_rc vmx_deliver_virtual(struct cpu *cpu) {
    struct status s = status_read(cpu);
    uint8_t vector = s.rvi;
    set_vector(cpu, ISR, vector, true);
    set_vector(cpu, IRR, vector, false);
    reg_write(cpu, PPR, vector & 0xf0);
    status_write(cpu, (struct status){.rvi = highest(cpu, IRR), .svi = vector});
    cpu->vmx.virtual = 0;
    pn_count(cpu->stats, virtual_interrupts);
    return cpu_deliver_intr(cpu, vector);
}

void vmx_apic_enter(struct cpu *cpu) {
    cpu->vmx.virtual = 0;
    if (vmx_proc2(cpu, VMX_PROC2_VIRTUAL_INTERRUPTS)) {
        make_ppr(cpu);
        evaluate(cpu);
    } else if (vmx_proc(cpu, VMX_PROC_TPR_SHADOW) &&
               vmx_proc2(cpu, VMX_PROC2_APIC_ACCESSES)) {
        tpr_written(cpu);
    }
}

void vmx_apic_refresh(struct cpu *cpu) {
    cpu->vmx.virtual = 0;
    if (vmx_proc2(cpu, VMX_PROC2_VIRTUAL_INTERRUPTS))
        evaluate(cpu);
}

/* ---- Posted interrupts ---- */

/* The descriptor: a bit for each vector, and ON. */
struct posted {
    uint64_t requests[4];
    uint64_t on; /* bit 0; what else is there is software's */
};
#define POSTED_ON 1u

void vmx_take_posted(struct cpu *cpu) {
    pn_gpa at = cpu->vmx.ctl.posted_at;
    struct posted p = {{0}, 0};
    uint8_t vector = 0;
    if (cpu->par)
        turn_alone(cpu); /* others set bits there by locked instructions */
    pn_mmu_read_phys(cpu->mmu, at, &p, sizeof p);
    p.on &= ~(uint64_t)POSTED_ON;
    for (unsigned i = 0; i < 8; i++) {
        uint32_t bits = (uint32_t)(p.requests[i / 2] >> i % 2 * 32);
        if (!bits)
            continue;
        reg_write(cpu, IRR + i * 16, reg_read(cpu, IRR + i * 16) | bits);
        vector = (uint8_t)(i * 32 + 31 - (unsigned)__builtin_clz(bits));
    }
    memset(p.requests, 0, sizeof p.requests);
    pn_mmu_vcpu_write(cpu->vmmu, at, &p, sizeof p);
    pn_count(cpu->stats, posted_interrupts);
    request(cpu, vector);
}

/* ---- The APIC-access page ---- */

/* Registers with all 32 bits of which begin at one of a range of offsets, 16 bytes apart. */
struct range {
    uint16_t first, last;
};

static bool within(const struct range *r, unsigned n, unsigned at, unsigned size) {
    unsigned reg = at & ~15u;
    if ((at & 15) + size > 4)
        return false;
    for (unsigned i = 0; i < n; i++)
        if (reg >= r[i].first && reg <= r[i].last)
            return true;
    return false;
}
#define WITHIN(ranges, at, size)                                                         \
    within(ranges, sizeof(ranges) / sizeof((ranges)[0]), at, size)

static bool virtualized(const struct cpu *cpu, enum pn_access access, unsigned at,
                        unsigned size) {
    static const struct range tpr[] = {{TPR, TPR}},
                              fast[] = {{TPR, TPR}, {EOI, EOI}, {ICR, ICR}},
                              written[] = {{ID, ID},           {TPR, TPR},
                                           {EOI, EOI},         {LDR, SPURIOUS},
                                           {ERROR, ERROR},     {ICR, LVT_LAST},
                                           {INITIAL, INITIAL}, {DIVIDE, DIVIDE}},
                              read[] = {{ID, VERSION},      {TPR, TPR},
                                        {EOI, EOI},         {LDR, SPURIOUS},
                                        {ISR, ERROR},       {ICR, LVT_LAST},
                                        {INITIAL, INITIAL}, {DIVIDE, DIVIDE}};
    if (!vmx_proc(cpu, VMX_PROC_TPR_SHADOW) || access == PN_FETCH || cpu->vmx.in_flight)
        return false;
    if (vmx_proc2(cpu, VMX_PROC2_APIC_REGISTERS))
        return pn_stores(access) ? WITHIN(written, at, size) : WITHIN(read, at, size);
    if (pn_stores(access) && vmx_proc2(cpu, VMX_PROC2_VIRTUAL_INTERRUPTS))
        return WITHIN(fast, at, size);
    return WITHIN(tpr, at, size);
}

pn_gpa vmx_apic_page(const struct cpu *cpu) {
    return (UINT64_C(1) << cpu->model->phys_bits) - PN_PAGE_SIZE;
}

bool vmx_is_apic(const struct cpu *cpu, pn_gpa gpa) {
    return vmx_proc2(cpu, VMX_PROC2_APIC_ACCESSES) &&
           gpa >> PN_PAGE_SHIFT == vmx_apic_page(cpu) >> PN_PAGE_SHIFT;
}

enum { ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH, ACCESS_EVENT };

enum cpu_rc vmx_apic_access(struct cpu *cpu, enum pn_access access, pn_gpa gpa,
                            unsigned size) {
    unsigned at = gpa & (PN_PAGE_SIZE - 1), type;
    if (virtualized(cpu, access, at, size))
        return CPU_NEXT;
    type = cpu->vmx.in_flight   ? ACCESS_EVENT
           : access == PN_FETCH ? ACCESS_FETCH
           : pn_stores(access)  ? ACCESS_WRITE
                                : ACCESS_READ;
    cpu->fault = (struct pn_fault){.vector = PN_VEC_NPF,
                                   .error = PN_NPF_APIC,
                                   .address = at | VMX_SAYS(APIC_TYPE, type)};
    return CPU_FAULT;
}

void vmx_apic_load(struct cpu *cpu, pn_gpa gpa, uint8_t *out, unsigned size) {
    pn_mmu_read_phys(cpu->mmu, cpu->vmx.ctl.vapic + (gpa & (PN_PAGE_SIZE - 1)), out,
                     size);
}

/* APIC-write emulation of a store to the page. */
static enum cpu_rc written(struct cpu *cpu, unsigned at) {
    bool delivers = vmx_proc2(cpu, VMX_PROC2_VIRTUAL_INTERRUPTS);
    unsigned reg = at & ~15u;
    if (reg == TPR) {
        reg_write(cpu, TPR, reg_read(cpu, TPR) & 0xff);
        return tpr_written(cpu);
    }
    if (reg == EOI && delivers)
        return end_interrupt(cpu);
    if (reg == ICR && delivers) {
        uint32_t v = reg_read(cpu, ICR);
        if ((v & ICR_SELF_MASK) == ICR_SELF && v & 0xf0)
            return ipi_self(cpu, (uint8_t)v);
    }
    if (reg == ICR_HIGH) {
        reg_write(cpu, ICR_HIGH, reg_read(cpu, ICR_HIGH) & 0xff000000u);
        return CPU_STOP;
    }
    return after(cpu, VMX_EXIT_APIC_WRITE, at);
}

void vmx_apic_store(struct cpu *cpu, pn_gpa gpa, const uint8_t *in, unsigned size) {
    unsigned at = gpa & (PN_PAGE_SIZE - 1);
    pn_mmu_vcpu_write(cpu->vmmu, cpu->vmx.ctl.vapic + at, in, size);
    written(cpu, at);
    cpu->disturbed++;
}

/* ---- MSRs of x2APIC ---- */

static bool msr_virtualized(const struct cpu *cpu, uint32_t index) {
    return vmx_proc2(cpu, VMX_PROC2_X2APIC) && index - MSR_X2APIC < 0x100;
}

bool vmx_x2apic_read(struct cpu *cpu, uint32_t index, enum cpu_rc *rc) {
    unsigned at = (index & 0xff) << 4;
    if (!msr_virtualized(cpu, index) ||
        !(at == TPR || vmx_proc2(cpu, VMX_PROC2_APIC_REGISTERS)))
        return false;
    uint64_t v = page_read(cpu, at, sizeof v);
    cpu->gpr[R_AX] = (uint32_t)v;
    cpu->gpr[R_DX] = v >> 32;
    *rc = CPU_NEXT;
    return true;
}

bool vmx_x2apic_write(struct cpu *cpu, uint32_t index, uint64_t value, enum cpu_rc *rc) {
    unsigned at = (index & 0xff) << 4;
    bool delivers = vmx_proc2(cpu, VMX_PROC2_VIRTUAL_INTERRUPTS);
    if (!msr_virtualized(cpu, index) ||
        !(at == TPR || (delivers && (at == EOI || at == SELF_IPI))))
        return false;
    if (value >> 8 || (at == EOI && value)) {
        *rc = gp0(cpu);
        return true;
    }
    pn_mmu_vcpu_write(cpu->vmmu, cpu->vmx.ctl.vapic + at, &value, sizeof value);
    if (at == TPR)
        *rc = tpr_written(cpu);
    else if (at == EOI)
        *rc = end_interrupt(cpu);
    else
        *rc = value & 0xf0 ? ipi_self(cpu, (uint8_t)value)
                           : after(cpu, VMX_EXIT_APIC_WRITE, at);
    return true;
}

/* ---- CR8 ---- */

enum cpu_rc vmx_write_tpr(struct cpu *cpu, uint64_t v) {
    if (v > 15)
        return gp0(cpu);
    reg_write(cpu, TPR, (uint32_t)v << 4);
    return tpr_written(cpu);
}

uint64_t vmx_read_tpr(struct cpu *cpu) {
    return reg_read(cpu, TPR) >> 4 & 15;
}
