/* SPDX-License-Identifier: MIT */
/*
 * A hostile hypervisor in the software CPU: L1 enters L2 in a loop, and between two entries the
 * input changes what L1's and L2's memory holds, and what interrupts. A target says what there
 * is to change, and what L1's code is. Under both kinds of MMU:
 *
 * 1. The CPU comes back after its instructions, whatever L1 and L2 do.
 * 2. L2 runs exactly while the mode has MODE_GUEST.
 * 3. The audit holds, and the state that is there can be given to another CPU.
 */
#pragma once

#include "cpu/cpu.h"
#include "fixture_l2.h"
#include "input.h"

#define INSNS  4000u
#define ROUNDS 64u
#define OWN    8u /* instructions of the target's */

struct machine;
struct hypervisor {
    const char *model;
    /* Before the first entry: registers and memory; how: a byte of the input's. */
    void (*begin)(struct machine *m, uint8_t how);
    /* Between two entries: what a hypervisor does after most exits; a change by the input. */
    void (*go_on)(struct machine *m);
    void (*change)(struct machine *m);
    /* An L2 that may be entered, of one of two kinds; a change of the pages that its control
     * structure points to, by op; where in that structure L2's RIP is. */
    void (*good)(struct machine *m, bool kind);
    void (*change_page)(struct machine *m, uint8_t op);
    pn_gpa rip;
    const uint8_t (*insns)[8]; /* OWN of them, with zeros behind each */
    bool (*in_guest)(const struct cpu *cpu);
};

struct machine {
    struct guest g; /* first: the bus has its address */
    const struct hypervisor *hv;
    struct input in;
    unsigned rounds;
    int irq; /* a vector, or -1 */
};

/* ---- Memory ---- */

static inline void put(struct machine *m, pn_gpa gpa, uint64_t value, unsigned size) {
    l2_store(&m->g, gpa, value, size);
}

static inline uint64_t get(struct machine *m, pn_gpa gpa) {
    return l2_load(&m->g, gpa);
}

/* ---- What the input says ---- */

static inline uint64_t any_entry(struct machine *m) {
    uint64_t b = take(&m->in, 3);
    return (b & 0x3ff) << 12 | (b >> 10 & 0x1ff) | (b >> 19 & 1 ? 7 : 0) |
           (b >> 20 & 1) << 63 | (b >> 21 & 7) << 50;
}

static inline void change_nested(struct machine *m) {
    pn_gpa table = NESTED + (take(&m->in, 1) & 3) * 0x1000;
    table += take(&m->in, 1) * 8;
    put(m, table, any_entry(m), 8);
}

/* Instructions that a hypervisor may want to see. */
static inline void put_insn(struct machine *m, pn_gpa at) {
    static const uint8_t before[][8] = {
        {0x0f, 0x22, 0xd8}, /* mov cr3, rax */
        {0x0f, 0x22, 0xc0}, /* mov cr0, rax */
        {0x0f, 0x22, 0xe0}, /* mov cr4, rax */
        {0x0f, 0x20, 0xd8}, /* mov rax, cr3 */
        {0x0f, 0x23, 0xf8}, /* mov dr7, rax */
        {0x0f, 0x30},       /* wrmsr */
        {0x0f, 0x32},       /* rdmsr */
        {0x0f, 0xa2},       /* cpuid */
        {0x0f, 0x01, 0x38}, /* invlpg [rax] */
    };
    static const uint8_t behind[][8] = {
        {0x0f, 0x01, 0x10},    /* lgdt [rax] */
        {0x0f, 0x01, 0x18},    /* lidt [rax] */
        {0x0f, 0x00, 0xd8},    /* ltr ax */
        {0x0f, 0x01, 0xd1},    /* xsetbv */
        {0x48, 0x89, 0x00},    /* mov [rax], rax */
        {0x48, 0x8b, 0x00},    /* mov rax, [rax] */
        {0x48, 0x05, 0, 0x10}, /* add rax, 0x1000 */
        {0xf3, 0x48, 0xab},    /* rep stosq */
        {0xf3, 0x6f},          /* rep outsd */
        {0xe4, 0x80},          /* in al, 0x80 */
        {0xe6, 0x80},          /* out 0x80, al */
        {0xcd, 0x20},          /* int 0x20 */
        {0xcc},                /* int3 */
        {0xf1},                /* int1 */
        {0x48, 0xcf},          /* iretq */
        {0x9c},                /* pushfq */
        {0x9d},                /* popfq */
        {0xfb},                /* sti */
        {0xfa},                /* cli */
        {0xf4},                /* hlt */
        {0xf3, 0x90},          /* pause */
        {0x0f, 0x31},          /* rdtsc */
        {0x0f, 0x33},          /* rdpmc */
        {0x0f, 0x05},          /* syscall */
        {0x48, 0x0f, 0x07},    /* sysretq */
        {0x8e, 0xd0},          /* mov ss, eax */
        {0xff, 0x20},          /* jmp [rax] */
        {0x0f, 0x0b},          /* ud2 */
        {0xeb, 0xf0},          /* jmp back */
    };
    enum { BEFORE = sizeof before / 8, BEHIND = sizeof behind / 8 };
    unsigned which = (unsigned)take(&m->in, 1) % (BEFORE + OWN + BEHIND), size = 8;
    const uint8_t *insn = which < BEFORE         ? before[which]
                          : which < BEFORE + OWN ? m->hv->insns[which - BEFORE]
                                                 : behind[which - BEFORE - OWN];
    while (!insn[size - 1])
        size--;
    pn_mmu_write_phys(m->g.mmu, at, insn, size);
}

static inline void change_code(struct machine *m, bool bytes) {
    pn_gpa at = L2_CODE + take(&m->in, 1);
    if (bytes)
        put(m, at, take(&m->in, 8), 8);
    else
        put_insn(m, L2_CODE + at % 64);
}

static inline void change_irq(struct machine *m) {
    m->irq = (int)take(&m->in, 1);
    m->g.cpu->intr_line = 1;
}

/* What every hypervisor does to its guest. which: 0..7; rest: what op says beside. */
#define COMMON 8u
static inline void change_common(struct machine *m, unsigned which, uint8_t op,
                                 unsigned rest) {
    switch (which) {
    case 0:
        change_nested(m);
        break;
    case 1:
        guest_gpte(&m->g, GUEST_BASE + (take(&m->in, 1) << 12), any_entry(m));
        break;
    case 2:
        change_code(m, op & 0x80);
        break;
    case 3:
        m->hv->change_page(m, op);
        break;
    case 4:
        change_irq(m);
        break;
    case 5:
        m->g.cpu->nmi_pending = 1;
        break;
    case 6:
        m->hv->good(m, op & 0x80);
        break;
    default: /* skip an instruction, as a hypervisor that emulates it, or go elsewhere */
        put(m, m->hv->rip,
            op & 0x80 ? GUEST_BASE + L2_CODE + take(&m->in, 1)
                      : get(m, m->hv->rip) + rest,
            8);
    }
}

/* L2's first code: any bytes, or instructions from the lists. */
static inline void first_code(struct machine *m, bool bytes) {
    uint8_t code[64] = {0};
    for (unsigned i = 0; bytes && i < sizeof code; i++)
        code[i] = (uint8_t)take(&m->in, 1);
    if (bytes)
        pn_mmu_write_phys(m->g.mmu, L2_CODE, code, sizeof code);
    for (unsigned i = 0; !bytes && i < sizeof code; i += 3)
        put_insn(m, L2_CODE + i);
}

/* ---- The bus ---- */

static inline void hv_pio_write(void *opaque, unsigned vcpu, uint16_t port, unsigned size,
                                uint64_t value) {
    struct machine *m = opaque;
    if (port != 0x80)
        return;
    if (!m->in.size || m->rounds++ == ROUNDS) {
        cpu_kick(m->g.cpu);
        return;
    }
    m->hv->go_on(m);
    for (unsigned n = 1 + take(&m->in, 1) % 4; n; n--)
        m->hv->change(m);
}

static inline uint64_t hv_pio_read(void *opaque, unsigned vcpu, uint16_t port,
                                   unsigned size) {
    return take(&((struct machine *)opaque)->in, size);
}
static inline int hv_irq_peek(void *opaque, unsigned vcpu) {
    return ((struct machine *)opaque)->irq;
}
static inline int hv_irq_ack(void *opaque, unsigned vcpu) {
    struct machine *m = opaque;
    int vector = m->irq;
    m->irq = -1;
    return vector;
}
static inline void hv_irq_eoi(void *opaque, unsigned vcpu) {
}
static inline int hv_msr_read(void *opaque, unsigned vcpu, uint32_t index,
                              uint64_t *value) {
    *value = 0;
    return index & 1 ? -1 : 0;
}
static inline int hv_msr_write(void *opaque, unsigned vcpu, uint32_t index,
                               uint64_t value) {
    return index & 1 ? -1 : 0;
}
static inline uint64_t hv_cr8_read(void *opaque, unsigned vcpu) {
    return 0;
}
static inline void hv_cr8_write(void *opaque, unsigned vcpu, uint64_t value) {
}

/* ---- One input ---- */

static inline void hv_begin(struct machine *m, enum pn_mmu_kind kind) {
    uint8_t how = (uint8_t)take(&m->in, 1);
    struct guest_options opt = {.kind = kind,
                                .model = m->hv->model,
                                .max_block = how & 1,
                                .code_bytes = 1u << 20,
                                .small_pages = how & 2};
    guest_create(&m->g, &opt);
    guest_idt(&m->g);
    m->g.bus.pio_read = hv_pio_read;
    m->g.bus.pio_write = hv_pio_write;
    m->g.bus.intr_peek = hv_irq_peek;
    m->g.bus.intr_ack = hv_irq_ack;
    m->g.bus.intr_eoi = hv_irq_eoi;
    m->g.bus.msr_read = hv_msr_read;
    m->g.bus.msr_write = hv_msr_write;
    m->g.bus.cr8_read = hv_cr8_read;
    m->g.bus.cr8_write = hv_cr8_write;
    m->irq = -1;
    m->hv->begin(m, how);
    first_code(m, how & 8);
    guest_start(&m->g, GUEST_BASE + L1_CODE, GUEST_BASE + 0x18000);
}

static inline void hv_check(struct machine *m) {
    struct cpu *cpu = m->g.cpu;
    static struct pn_cpu_state s;
    REQUIRE(m->hv->in_guest(cpu) == !!(cpu->mode & MODE_GUEST));
    cpu_get_state(cpu, &s);
    REQUIRE(cpu_set_state(cpu, &s) == 0);
}

static inline void hv_run(const struct hypervisor *hv, const uint8_t *data, size_t size,
                          enum pn_mmu_kind kind) {
    static struct machine m; /* too large for a fuzzer's stack */
    memset(&m, 0, sizeof m);
    m.hv = hv;
    m.in = (struct input){data, size};
    hv_begin(&m, kind);
    /* Again after a restore of its state, which reads the controls again. */
    for (uint64_t limit = INSNS; limit <= 2 * INSNS; limit += INSNS) {
        enum cpu_exit why = cpu_run(m.g.cpu, limit);
        REQUIRE(cpu_insns(m.g.cpu) < limit + 4096);
        hv_check(&m);
        if (why != CPU_EXIT_DEADLINE)
            break;
    }
    REQUIRE(pn_mmu_audit(m.g.mmu, stderr) == 0);
    guest_destroy(&m.g);
}

static inline int hv_try(const struct hypervisor *hv, const uint8_t *data, size_t size) {
    hv_run(hv, data, size, PN_MMU_SHADOW);
    hv_run(hv, data, size, PN_MMU_TDP);
    return 0;
}
