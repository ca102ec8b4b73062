/* SPDX-License-Identifier: MIT */
/*
 * A hostile hypervisor in the software CPU: L1 runs VMRUN in a loop, and between two of them
 * the input changes its VMCB, its maps, its nested tables, the tables and code of L2, and what
 * interrupts. L2 begins as any bytes. Under both kinds of MMU:
 *
 * 1. The CPU comes back after its instructions, whatever L1 and L2 do.
 * 2. L2 runs exactly while the mode has MODE_GUEST.
 * 3. The audit holds, and the state that is there can be given to another CPU.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cpu/svm.h"
#include "fixture_guest.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define L1_CODE 0x10000u
#define L2_CODE 0x20000u
#define VMCB    0x30000u
#define HSAVE   0x31000u
#define IOPM    0x32000u /* three pages */
#define MSRPM   0x36000u /* two */
#define NPT     0x40000u /* four */
#define INSNS   4000u
#define ROUNDS  64u

struct machine {
    struct guest g; /* first: the bus has its address */
    struct input in;
    unsigned rounds;
    int irq; /* a vector, or -1 */
};

/* ---- Memory ---- */

static void put(struct machine *m, pn_gpa gpa, uint64_t value, unsigned size) {
    pn_mmu_write_phys(m->g.mmu, gpa, &value, size);
}

static uint64_t get(struct machine *m, pn_gpa gpa) {
    uint64_t v = 0;
    pn_mmu_read_phys(m->g.mmu, gpa, &v, 8);
    return v;
}

static void put_segment(struct machine *m, unsigned at, uint16_t attr) {
    put(m, VMCB + VMCB_SAVE + at, 8, 2);
    put(m, VMCB + VMCB_SAVE + at + 2, attr, 2);
    put(m, VMCB + VMCB_SAVE + at + 4, ~0u, 4);
    put(m, VMCB + VMCB_SAVE + at + 8, 0, 8);
}

/* A VMCB that may be entered: L2 in L1's address space, with or without nested paging. */
static void good_vmcb(struct machine *m, bool nested) {
    const struct cpu *cpu = m->g.cpu;
    static const uint8_t none[VMCB_SIZE];
    pn_mmu_write_phys(m->g.mmu, VMCB, none, sizeof none);
    put(m, VMCB + VMCB_MISC1, 1u << ICPT_SHUTDOWN | 1u << ICPT_INTR | 1u << ICPT_HLT, 4);
    put(m, VMCB + VMCB_MISC2, 1, 4);
    put(m, VMCB + VMCB_IOPM, IOPM, 8);
    put(m, VMCB + VMCB_MSRPM, MSRPM, 8);
    put(m, VMCB + VMCB_ASID, 1, 4);
    put(m, VMCB + VMCB_NP, nested, 8);
    put(m, VMCB + VMCB_NCR3, NPT, 8);
    put_segment(m, SAVE_CS, 0xa9b);
    for (unsigned at = SAVE_ES; at <= SAVE_GS; at += 16)
        if (at != SAVE_CS)
            put_segment(m, at, 0xc93);
    put_segment(m, SAVE_TR, 0x8b);
    put(m, VMCB + VMCB_SAVE + SAVE_TR + 4, 0x67, 4);
    put(m, VMCB + VMCB_SAVE + SAVE_TR + 8, cpu->seg[SEG_TR].base, 8);
    static const struct {
        unsigned at;
        uint64_t value;
    } fixed[] = {{SAVE_CR3, GUEST_CR3},
                 {SAVE_DR7, 0x400},
                 {SAVE_DR6, 0xffff0ff0},
                 {SAVE_RFLAGS, 0x202},
                 {SAVE_RIP, GUEST_BASE + L2_CODE},
                 {SAVE_RSP, GUEST_BASE + 0x28000},
                 {SAVE_RAX, GUEST_BASE + 0x50000},
                 {SAVE_PAT, 0x0007040600070406}};
    for (unsigned i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        put(m, VMCB + VMCB_SAVE + fixed[i].at, fixed[i].value, 8);
    put(m, VMCB + VMCB_SAVE + SAVE_EFER, cpu->efer | EFER_SVME, 8);
    put(m, VMCB + VMCB_SAVE + SAVE_CR4, cpu->cr4, 8);
    put(m, VMCB + VMCB_SAVE + SAVE_CR0, cpu->cr0, 8);
    put(m, VMCB + VMCB_SAVE + SAVE_GDTR + 8, cpu->gdtr.base, 8);
    put(m, VMCB + VMCB_SAVE + SAVE_GDTR + 4, 0x2f, 4);
    put(m, VMCB + VMCB_SAVE + SAVE_IDTR + 8, cpu->idtr.base, 8);
    put(m, VMCB + VMCB_SAVE + SAVE_IDTR + 4, 0x1ff, 4);
}

/* All memory one to one, the first 2 MiB by small pages. */
static void good_npt(struct machine *m) {
    put(m, NPT, (NPT + 0x1000) | 7, 8);
    put(m, NPT + 0x1000, (NPT + 0x2000) | 7, 8);
    put(m, NPT + 0x2000, (NPT + 0x3000) | 7, 8);
    for (uint64_t i = 1; i < GUEST_RAM >> 21; i++)
        put(m, NPT + 0x2000 + 8 * i, i << 21 | 0x87, 8);
    for (uint64_t i = 0; i < 512; i++)
        put(m, NPT + 0x3000 + 8 * i, i << 12 | 7, 8);
}

/* ---- What L1 does between two entries ---- */

static uint64_t any_entry(struct machine *m) {
    uint64_t b = take(&m->in, 3);
    return (b & 0x3ff) << 12 | (b >> 10 & 0x1ff) | (b >> 19 & 1 ? 7 : 0) |
           (b >> 20 & 1) << 63 | (b >> 21 & 7) << 50;
}

/* Instructions that a hypervisor may want to see. */
static void put_insn(struct machine *m, pn_gpa at) {
    static const uint8_t insns[][8] = {
        {0x0f, 0x22, 0xd8},    /* mov cr3, rax */
        {0x0f, 0x22, 0xc0},    /* mov cr0, rax */
        {0x0f, 0x22, 0xe0},    /* mov cr4, rax */
        {0x0f, 0x20, 0xd8},    /* mov rax, cr3 */
        {0x0f, 0x23, 0xf8},    /* mov dr7, rax */
        {0x0f, 0x30},          /* wrmsr */
        {0x0f, 0x32},          /* rdmsr */
        {0x0f, 0xa2},          /* cpuid */
        {0x0f, 0x01, 0x38},    /* invlpg [rax] */
        {0x0f, 0x01, 0xd8},    /* vmrun */
        {0x0f, 0x01, 0xda},    /* vmload */
        {0x0f, 0x01, 0xdb},    /* vmsave */
        {0x0f, 0x01, 0xdc},    /* stgi */
        {0x0f, 0x01, 0xdd},    /* clgi */
        {0x0f, 0x01, 0xdf},    /* invlpga */
        {0x0f, 0x01, 0xd9},    /* vmmcall */
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
        {0x48, 0xb8, 0, 0, 3, 0, 0,
         0},          /* mov rax, the VMCB (and two bytes that follow) */
        {0xff, 0x20}, /* jmp [rax] */
        {0x0f, 0x0b}, /* ud2 */
        {0xeb, 0xf0}, /* jmp back */
    };
    const uint8_t *insn = insns[take(&m->in, 1) % (sizeof insns / sizeof insns[0])];
    unsigned size = 8;
    while (!insn[size - 1])
        size--;
    pn_mmu_write_phys(m->g.mmu, at, insn, size);
}

static void change_field(struct machine *m) {
    static const uint16_t fields[] = {VMCB_CR,
                                      VMCB_DR,
                                      VMCB_EXCEPTIONS,
                                      VMCB_MISC1,
                                      VMCB_MISC2,
                                      VMCB_MISC3,
                                      VMCB_ASID,
                                      VMCB_TLB_CONTROL,
                                      VMCB_INT_CTL,
                                      VMCB_INT_STATE,
                                      VMCB_NP,
                                      VMCB_EVENT_INJ,
                                      VMCB_NCR3,
                                      VMCB_TSC_OFFSET,
                                      VMCB_IOPM,
                                      VMCB_SAVE + SAVE_CS + 2,
                                      VMCB_SAVE + 0xcb,
                                      0x4d0,
                                      0x548,
                                      0x550,
                                      0x558,
                                      0x560,
                                      0x568,
                                      0x570,
                                      0x578,
                                      0x5d8,
                                      0x422,
                                      0x668};
    uint8_t how = (uint8_t)take(&m->in, 1);
    unsigned at = fields[how % (sizeof fields / sizeof fields[0])];
    uint64_t bits = 1ull << take(&m->in, 1) % 64;
    if (how & 0x80)
        bits |= take(&m->in, 4);
    put(m, VMCB + at, get(m, VMCB + at) ^ bits, 8);
}

static void change(struct machine *m) {
    uint8_t op = (uint8_t)take(&m->in, 1);
    switch (op % 12) {
    case 0:
        put(m, VMCB + take(&m->in, 1) % VMCB_CONTROL_END, take(&m->in, 8),
            1 + op / 12 % 8);
        break;
    case 1:
        put(m, VMCB + VMCB_SAVE + take(&m->in, 2) % SAVE_SIZE, take(&m->in, 8),
            1 + op / 12 % 8);
        break;
    case 2:
        put(m, NPT + (take(&m->in, 1) & 3) * 0x1000 + take(&m->in, 1) * 8, any_entry(m),
            8);
        break;
    case 3:
        guest_gpte(&m->g, GUEST_BASE + (take(&m->in, 1) << 12), any_entry(m));
        break;
    case 4:
        if (op & 0x80)
            put(m, L2_CODE + take(&m->in, 1), take(&m->in, 8), 8);
        else
            put_insn(m, L2_CODE + take(&m->in, 1) % 64);
        break;
    case 5:
        put(m, IOPM + take(&m->in, 2) % 0x6000, take(&m->in, 1), 1);
        break;
    case 6:
        m->irq = (int)take(&m->in, 1);
        m->g.cpu->intr_line = 1;
        break;
    case 7:
        m->g.cpu->nmi_pending = 1;
        break;
    case 8:
        good_vmcb(m, op & 0x80);
        break;
    case 9: /* skip an instruction, as a hypervisor that emulates it, or go elsewhere */
        put(m, VMCB + 0x578,
            op & 0x80 ? GUEST_BASE + L2_CODE + take(&m->in, 1)
                      : get(m, VMCB + 0x578) + op / 12,
            8);
        break;
    default:
        change_field(m);
    }
}

/* What a hypervisor does after most exits. */
static void go_on(struct machine *m) {
    const pn_gpa rip = VMCB + VMCB_SAVE + SAVE_RIP;
    uint64_t code = get(m, VMCB + VMCB_EXIT_CODE), next = get(m, VMCB + VMCB_NRIP);
    if (code == SVM_EXIT_INVALID || code == SVM_EXIT_ICPT + ICPT_SHUTDOWN)
        good_vmcb(m, m->rounds & 1);
    else if (code == SVM_EXIT_ICPT + ICPT_INTR)
        m->irq = -1;
    else if (code == SVM_EXIT_ICPT + ICPT_HLT) /* an exception of L2's */
        put(m, rip, GUEST_BASE + L2_CODE + m->rounds * 3 % 64, 8);
    else if (next && m->rounds & 1)
        put(m, rip, next, 8);
}

static void pio_write(void *opaque, unsigned vcpu, uint16_t port, unsigned size,
                      uint64_t value) {
    struct machine *m = opaque;
    if (port != 0x80)
        return;
    if (!m->in.size || m->rounds++ == ROUNDS) {
        cpu_kick(m->g.cpu);
        return;
    }
    go_on(m);
    for (unsigned n = 1 + take(&m->in, 1) % 4; n; n--)
        change(m);
}

static uint64_t pio_read(void *opaque, unsigned vcpu, uint16_t port, unsigned size) {
    return take(&((struct machine *)opaque)->in, size);
}

/* ---- The rest of the machine ---- */

static int irq_peek(void *opaque, unsigned vcpu) {
    return ((struct machine *)opaque)->irq;
}
static int irq_ack(void *opaque, unsigned vcpu) {
    struct machine *m = opaque;
    int vector = m->irq;
    m->irq = -1;
    return vector;
}
static int msr_read(void *opaque, unsigned vcpu, uint32_t index, uint64_t *value) {
    *value = 0;
    return index & 1 ? -1 : 0;
}
static int msr_write(void *opaque, unsigned vcpu, uint32_t index, uint64_t value) {
    return index & 1 ? -1 : 0;
}
static uint64_t cr8_read(void *opaque, unsigned vcpu) {
    return 0;
}
static void cr8_write(void *opaque, unsigned vcpu, uint64_t value) {
}

/* VMLOAD, VMRUN, VMSAVE; OUT and IN, by which the input is taken; INVLPGA; STGI, CLGI. */
static void l1_code(struct machine *m) {
    static const uint8_t code[] = {
        0x48, 0xb8, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0f, 0x01, 0xda,
        0x0f, 0x01, 0xd8, 0x0f, 0x01, 0xdb, 0xe6, 0x80, 0xe5, 0x81, 0x89, 0xc1, 0x0f,
        0x01, 0xdf, 0x0f, 0x01, 0xdc, 0x90, 0x0f, 0x01, 0xdd, 0xeb, 0xdb};
    pn_mmu_write_phys(m->g.mmu, L1_CODE, code, sizeof code);
}

static void begin(struct machine *m, enum pn_mmu_kind kind) {
    uint8_t how = (uint8_t)take(&m->in, 1);
    uint8_t code[64] = {0};
    struct guest_options opt = {.kind = kind,
                                .model = "max,vendor=amd,+svm",
                                .max_block = how & 1,
                                .code_bytes = 1u << 20,
                                .small_pages = how & 2};
    guest_create(&m->g, &opt);
    guest_idt(&m->g);
    m->g.bus.pio_read = pio_read;
    m->g.bus.pio_write = pio_write;
    m->g.bus.intr_peek = irq_peek;
    m->g.bus.intr_ack = irq_ack;
    m->g.bus.msr_read = msr_read;
    m->g.bus.msr_write = msr_write;
    m->g.bus.cr8_read = cr8_read;
    m->g.bus.cr8_write = cr8_write;
    m->irq = -1;
    m->g.cpu->efer |= EFER_SVME;
    m->g.cpu->svm.hsave = HSAVE;
    l1_code(m);
    good_npt(m);
    good_vmcb(m, how & 4);
    for (unsigned i = 0; how & 8 && i < sizeof code; i++)
        code[i] = (uint8_t)take(&m->in, 1);
    if (how & 8)
        pn_mmu_write_phys(m->g.mmu, L2_CODE, code, sizeof code);
    for (unsigned i = 0; !(how & 8) && i < sizeof code; i += 3)
        put_insn(m, L2_CODE + i);
    guest_start(&m->g, GUEST_BASE + L1_CODE, GUEST_BASE + 0x18000);
}

static void check(struct machine *m) {
    struct cpu *cpu = m->g.cpu;
    static struct pn_cpu_state s;
    REQUIRE(!cpu->svm.guest == !(cpu->mode & MODE_GUEST));
    cpu_get_state(cpu, &s);
    REQUIRE(cpu_set_state(cpu, &s) == 0);
}

static void run(const uint8_t *data, size_t size, enum pn_mmu_kind kind) {
    static struct machine m; /* too large for a fuzzer's stack */
    memset(&m, 0, sizeof m);
    m.in = (struct input){data, size};
    begin(&m, kind);
    /* Again after a restore of its state, which reads the controls again. */
    for (uint64_t limit = INSNS; limit <= 2 * INSNS; limit += INSNS) {
        enum cpu_exit why = cpu_run(m.g.cpu, limit);
        REQUIRE(cpu_insns(m.g.cpu) < limit + 4096);
        check(&m);
        if (why != CPU_EXIT_DEADLINE)
            break;
    }
    REQUIRE(pn_mmu_audit(m.g.mmu, stderr) == 0);
    guest_destroy(&m.g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    run(data, size, PN_MMU_SHADOW);
    run(data, size, PN_MMU_TDP);
    return 0;
}
