/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the interrupt controller share: pic.c, ioapic.c, lapic.c,
 * lapic_timer.c, and intc.c which owns them all.
 *
 * An interrupt's way: a device sets its gsi in intc.c -> pic.c (gsi 0..15) and ioapic.c
 * -> intc_deliver() picks the local APICs -> lapic_accept() sets IRR -> intc_notify()
 * kicks the vCPU -> the CPU calls intc_peek and intc_ack.
 */
#pragma once

#include "dev/dev.h"
#include "penumbra/x86.h"

/* Delivery modes, as in the ICR, the LVT and the IO-APIC's redirection entries. */
enum apic_mode {
    APIC_FIXED,
    APIC_LOWEST,
    APIC_SMI,
    APIC_REMOTE_READ,
    APIC_NMI,
    APIC_INIT,
    APIC_SIPI,
    APIC_EXTINT
};

/* ---- pic.c ---- */

/* p: the two chips of struct pn_chips. */
void pic_reset(struct pn_pic *p);
/* irq 0..15, 2 ignored. */
void pic_set(struct pn_pic *p, unsigned irq, int level);
/* INTR: does the pair ask for the CPU? */
bool pic_output(const struct pn_pic *p);
/* Return: the vector that an acknowledge would give now. */
uint8_t pic_vector(const struct pn_pic *p);
uint8_t pic_ack(struct pn_pic *p);
/* chip 0 or 1, a: address bit 0. */
uint8_t pic_read(struct pn_pic *p, unsigned chip, unsigned a);
void pic_write(struct pn_pic *p, unsigned chip, unsigned a, uint8_t value);
uint8_t pic_elcr_read(const struct pn_pic *p, unsigned chip);
void pic_elcr_write(struct pn_pic *p, unsigned chip, uint8_t value);
/* The slave's output is the master's input: after a state was put in. */
void pic_cascade(struct pn_pic *p);
bool pic_check(const struct pn_pic *p); /* as dev_class.check */

/* ---- ioapic.c ---- */

void ioapic_reset(struct intc *i);
void ioapic_set(struct intc *i, unsigned pin, int level);
/* A local APIC's EOI of a level-triggered vector. */
void ioapic_eoi(struct intc *i, uint8_t vector);
uint64_t ioapic_read(void *dev, uint64_t offset, unsigned size);
void ioapic_write(void *dev, uint64_t offset, unsigned size, uint64_t value);
bool ioapic_check(const struct pn_ioapic *s);

/* ---- lapic.c ---- */

enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

/* Version 0x14, LVT_COUNT entries, EOI-broadcast suppression. */
#define LAPIC_VERSION (0x14u | (LVT_COUNT - 1) << 16 | 1u << 24)

/* Registers by number: the offset in the xAPIC page / 16, the x2APIC MSR - 0x800. */
#define REG_ID       0x02u
#define REG_VERSION  0x03u
#define REG_TPR      0x08u
#define REG_APR      0x09u
#define REG_PPR      0x0au
#define REG_EOI      0x0bu
#define REG_LDR      0x0du
#define REG_DFR      0x0eu
#define REG_SVR      0x0fu
#define REG_ISR      0x10u
#define REG_TMR      0x18u
#define REG_IRR      0x20u
#define REG_ESR      0x28u
#define REG_ICR_LOW  0x30u
#define REG_ICR_HIGH 0x31u
#define REG_LVT      0x32u
#define REG_INITIAL  0x38u
#define REG_CURRENT  0x39u
#define REG_DIVIDE   0x3eu
#define REG_SELF_IPI 0x3fu

#define ICR_MASK   0xccfffu /* without delivery status */
#define ICR_LEVEL  0x8000u
#define LVT_MASKED 0x10000u

struct lapic_state {
    uint64_t base;                   /* IA32_APIC_BASE */
    uint64_t irr[4], isr[4], tmr[4]; /* bit v % 64 of word v / 64 */
    uint64_t icr;
    uint32_t tpr, svr, ldr, dfr, esr, esr_next;
    uint32_t lvt[LVT_COUNT];
    /* Timer. Count at time t: base_count, less the ticks since base_ns, reloaded from
     * initial when periodic. */
    uint32_t initial, divide, base_count;
    uint64_t base_ns;
    uint64_t deadline;    /* IA32_TSC_DEADLINE; 0: not armed */
    uint64_t deadline_ns; /* when it was said to come, by the TSC as it was then */
    /* The guest may end the interrupt in service without telling: then it is the only
     * one, edge-triggered, and IRR is empty. Whoever looks at ISR or fills IRR calls
     * lapic_settle first. */
    uint8_t eoi_offered;
};

struct lapic {
    struct device dev;
    struct intc *intc;
    unsigned cpu; /* also its APIC id */
    struct lapic_state s;
};
extern const struct dev_class lapic_class; /* config: the intc */

/* power: RESET, which also restores the base; else INIT. */
void lapic_reset(struct lapic *l, bool power);
/* Return: the vector that may interrupt now, or -1. */
int lapic_peek(const struct lapic *l);
int lapic_ack(struct lapic *l);
void lapic_eoi(struct lapic *l);
/* Take an offered EOI back; if the guest has used it, the interrupt ends here. */
void lapic_settle(struct lapic *l);
/* Take one interrupt message. Return: whether it was taken. */
bool lapic_accept(struct lapic *l, enum apic_mode mode, uint8_t vector, bool level);
/* The 8259 pair's output moved: what LINT0 makes of it. */
void lapic_lint0(struct lapic *l, bool level);
/* Does LINT0 (or a switched-off APIC) pass the 8259's INTR to the CPU? */
bool lapic_takes_extint(const struct lapic *l);
/* Is this APIC named by a destination? x2: dest has 32 bits. */
bool lapic_matches(const struct lapic *l, uint32_t dest, bool logical, bool x2);
/* Which bits of an LVT entry are kept. */
extern const uint32_t lapic_lvt_mask[LVT_COUNT];
/* Processor priority, for lowest-priority arbitration. */
uint8_t lapic_ppr(const struct lapic *l);
int lapic_msr_read(struct lapic *l, uint32_t index, uint64_t *value);
int lapic_msr_write(struct lapic *l, uint32_t index, uint64_t value);
/* Fire an LVT entry. */
void lapic_local(struct lapic *l, unsigned entry);
uint64_t lapic_mmio_read(void *opaque, uint64_t offset, unsigned size);
void lapic_mmio_write(void *opaque, uint64_t offset, unsigned size, uint64_t value);

static inline bool lapic_enabled(const struct lapic *l) {
    return l->s.base & APIC_BASE_EN;
}
static inline bool lapic_x2(const struct lapic *l) {
    return l->s.base & APIC_BASE_X2;
}

/* ---- lapic_timer.c ---- */

#define APIC_HZ_MAX 8000000000u

void lapic_timer_reset(struct lapic *l);
/* Current count register. */
uint32_t lapic_timer_count(const struct lapic *l);
void lapic_timer_set_initial(struct lapic *l, uint32_t value);
void lapic_timer_set_divide(struct lapic *l, uint32_t value);
void lapic_timer_set_lvt(struct lapic *l, uint32_t value);
uint64_t lapic_timer_deadline(const struct lapic *l);
void lapic_timer_set_deadline(struct lapic *l, uint64_t tsc);
void lapic_timer_fire(void *lapic);
/* Could its registers be so, now? And: arm for them. */
bool lapic_timer_check(const struct lapic *l, const struct lapic_state *s);
void lapic_timer_settle(void *lapic);
/* Go on from these registers; a TSC deadline is set afterwards. */
void lapic_timer_restore(struct lapic *l, uint32_t lvt, uint32_t initial, uint32_t divide,
                         uint32_t count);

/* ---- intc.c ---- */

#define INTC_CPUS_MAX 256u

struct intc_state {
    struct pn_pic pic[2];
    struct pn_ioapic ioapic;
    uint32_t lines;   /* levels of the gsis */
    uint32_t current; /* vCPU whose local APIC answers MMIO */
};

struct intc {
    struct device dev;
    struct intc_config cfg;
    struct intc_state s;
    bool pic_out;                       /* pic_output, as the local APICs know it */
    uint64_t mapped;                    /* where the local APIC's page is on the bus */
    struct lapic *lapic[INTC_CPUS_MAX]; /* cfg.cpus of them */
};

/* An interrupt message of an IPI or the IO-APIC. Return: whether anyone took it. */
bool intc_deliver(struct intc *i, uint32_t dest, bool logical, bool x2,
                  enum apic_mode mode, uint8_t vector, bool level);
/* Something may be deliverable to this vCPU now. */
void intc_notify(struct intc *i, unsigned cpu);
/* The 8259 pair was touched: follow its output. */
void intc_pic_changed(struct intc *i);
/* The current vCPU's local APIC moved. */
void intc_remap(struct intc *i);
uint64_t intc_tsc(struct intc *i, unsigned cpu);
