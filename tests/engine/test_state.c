/* SPDX-License-Identifier: MIT */
/*
 * The state of a vCPU goes through an engine and comes back whole: every row of
 * penumbra/cpu_state.inc, because the fields are walked, not named. Some rows exclude each
 * other, so it takes several states until each has moved with a value that no reset
 * leaves.
 *
 *   test_state [kvm]
 *
 * Without an argument: the soft engines. kvm: from a soft engine to KVM and back.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/nested.h"
#include "penumbra/engine.h"
#include "penumbra/pv.h"

#define RAM_SIZE 0x200000u
#define SKIPPED  77
#define TABLE    0x1000u /* PAE's directory pointers, in guest memory */
#define POISON   0xa5
#define AVX_AT   576u /* YMM's upper halves, in the standard format */

/* The interrupt controller and the paravirtual interface, as far as they are state. */
struct outside {
    uint64_t cr8, msr[PN_MSRS];
};

static const uint32_t msr_index[PN_MSRS] = {
#define PN_MSR(name, index, soft, present, take, reset) index,
#define PN_MSR_BUS(name, index, present)                index,
#include "penumbra/cpu_state.inc"
};

static int failures;

static void expect(bool ok, const char *what) {
    if (ok)
        return;
    printf("failed: %s\n", what);
    failures++;
}

/* ---- The bus ---- */

static uint64_t *slot(struct outside *o, uint32_t index) {
    for (unsigned i = 0; i < PN_MSRS; i++)
        if (msr_index[i] == index)
            return &o->msr[i];
    return NULL;
}

static int msr_read(void *opaque, unsigned cpu, uint32_t index, uint64_t *value) {
    uint64_t *p = slot(opaque, index);
    if (p)
        *value = *p;
    return p ? 0 : -1;
}

static int msr_write(void *opaque, unsigned cpu, uint32_t index, uint64_t value) {
    uint64_t *p = slot(opaque, index);
    if (p)
        *p = value;
    return p ? 0 : -1;
}

static uint64_t cr8_read(void *opaque, unsigned cpu) {
    return ((struct outside *)opaque)->cr8;
}

static void cr8_write(void *opaque, unsigned cpu, uint64_t value) {
    ((struct outside *)opaque)->cr8 = value;
}

static int no_interrupt(void *opaque, unsigned cpu) {
    return -1;
}

/* ---- An engine with one vCPU ---- */

struct side {
    const struct pn_engine_ops *ops;
    struct pn_engine *engine;
    struct outside outside;
    struct pn_bus bus;
    char err[200];
};

static int begin_from(struct side *s, const char *name, const char *model, void *ram,
                      const struct side *from) {
    struct pn_mmu_options opt;
    pn_mmu_options_default(&opt);
    *s = (struct side){.ops = pn_engine_find(name),
                       .bus = {.msr_read = msr_read,
                               .msr_write = msr_write,
                               .cr8_read = cr8_read,
                               .cr8_write = cr8_write,
                               .intr_peek = no_interrupt,
                               .intr_ack = no_interrupt}};
    s->bus.opaque = &s->outside;
    const struct pn_memslot slots[] = {{.size = RAM_SIZE, .hva = ram}};
    const struct pn_engine_config cfg = {.cpus = 1,
                                         .cpu_model = model,
                                         .mmu = &opt,
                                         .bus = &s->bus,
                                         .slot = slots,
                                         .slot_count = 1,
                                         .seed = 7,
                                         .pv = s->ops->threaded ? PN_PV_DEFAULT : 1,
                                         .halt_poll_ns = -1,
                                         .from_ops = from ? from->ops : NULL,
                                         .from = from ? from->engine : NULL};
    return s->ops->create(&cfg, &s->engine, s->err, sizeof(s->err));
}

static int begin(struct side *s, const char *name, const char *model, void *ram) {
    return begin_from(s, name, model, ram, NULL);
}

static void end(struct side *s) {
    if (s->engine)
        s->ops->destroy(s->engine);
}

/* ---- A state without two equal fields ---- */

static struct pn_cpu_field field(const char *name) {
    for (unsigned i = 0; i < pn_cpu_field_count; i++)
        if (!strcmp(pn_cpu_fields[i].name, name))
            return pn_cpu_fields[i];
    printf("no field %s\n", name);
    exit(1);
}

static void put(struct pn_cpu_state *s, const char *name, uint64_t value) {
    struct pn_cpu_field f = field(name);
    pn_cpu_field_set(s, &f, value);
}

/* A value of its own for each field, small enough to be an address. */
static void fill(struct pn_cpu_state *s) {
    memset(s, 0, sizeof(*s));
    for (unsigned i = 0; i < pn_cpu_field_count; i++)
        pn_cpu_field_set(s, &pn_cpu_fields[i], 0x4000000u + 0x10000u * i + 0x101u * i);
    s->msr_known = (1ull << PN_MSRS) - 1;
    for (unsigned i = 0; i < sizeof(s->xsave); i++)
        s->xsave[i] = (uint8_t)(i * 7 + 3);
    s->xsave[FX_FOP + 1] &= 7;        /* 11 bits */
    memset(s->xsave + FX_MASK, 0, 4); /* the host's */
    s->xsave[XSAVE_HEADER] = 0xff;    /* every component has what is there */
}

/* Fields that hold only some values, none of them that of reset. */
static void narrow(struct pn_cpu_state *s) {
    static const struct {
        const char *name;
        uint64_t value;
    } some[] = {
        {"rflags", FL_FIXED | FL_CF | FL_ZF | FL_IF | FL_DF | FL_RF},
        {"cr8", 0xb},
        {"activity", PN_HALTED},
        {"intr_shadow", PN_SHADOW_MOV_SS},
        {"exception", VEC_PF},
        {"interrupt", 0x31},
        {"fault_streak", 3},
        {"gif", 1},
        {"in_guest", 0},
        {"in_vmx", 0},
        {"in_vmx_guest", 0},
        {"vmx_init", 0},
        {"vmx_trap", 0},
        {"vmx_after", 0},
    };
    for (unsigned i = 0; i < sizeof(some) / sizeof(some[0]); i++)
        put(s, some[i].name, some[i].value);
}

/* ---- Which rows have moved ---- */

static bool moved[256];

static void moved_whole(const struct pn_cpu_state *s, const struct pn_cpu_state *reset) {
    for (unsigned i = 0; i < pn_cpu_field_count; i++)
        moved[i] |= pn_cpu_field_get(s, &pn_cpu_fields[i]) !=
                    pn_cpu_field_get(reset, &pn_cpu_fields[i]);
}

static void each_row_has_moved(void) {
    for (unsigned i = 0; i < pn_cpu_field_count; i++) {
        if (!moved[i])
            printf("%s: ", pn_cpu_fields[i].name);
        expect(moved[i], "a row has moved with the value of reset alone");
        moved[i] = false;
    }
}

/* ---- Soft ---- */

/* Return: what differs between a state and itself as the engine gives it back. */
static unsigned through(struct side *side, const struct pn_cpu_state *in,
                        struct pn_cpu_state *out) {
    memset(out, POISON, sizeof(*out));
    int rc = side->ops->set_state(side->engine, 0, in);
    if (rc == 0)
        rc = side->ops->get_state(side->engine, 0, out);
    if (rc)
        printf("%s: %s\n", side->ops->name, strerror(-rc));
    return rc ? 1 : pn_cpu_state_diff(in, out, stdout);
}

/* A CPU in the guest of its guest: of AMD's kind, or of Intel's. */
static void a_hypervisor_moves(void *ram, bool intel) {
    const char *model = intel ? "max,vendor=intel,+vmx" : "max,vendor=amd,+svm";
    static struct pn_cpu_state reset, in, mid, out;
    struct side shadow, tdp;
    fill(&in);
    narrow(&in);
    put(&in, "gif", intel);
    put(&in, "in_guest", !intel);
    put(&in, "in_vmx", intel);
    put(&in, "in_vmx_guest", intel);
    put(&in, "vmx_init", 2 * intel);
    put(&in, "vmx_trap", intel);
    put(&in, "vmx_after", intel ? 45 << 16 | 0x31 : 0);
    in.efer = in.cr0 = in.cr4 = 0; /* no paging: the MMU reads no tables */
    for (unsigned paging = 0; paging < 2; paging++) {
        if (paging) {
            in.cr0 = CR0_PE | CR0_PG | CR0_WP;
            in.cr4 = CR4_PAE | CR4_OSFXSR;
            in.efer = EFER_NXE;
        }
        expect(begin(&shadow, "shadow", model, ram) == 0 &&
                   begin(&tdp, "tdp", model, ram) == 0,
               "two soft engines");
        shadow.ops->get_state(shadow.engine, 0, &reset);
        expect(through(&shadow, &in, &mid) == 0, "shadow gives back what it took");
        expect(through(&tdp, &mid, &out) == 0, "tdp gives back what shadow gave");
        expect(pn_cpu_state_diff(&in, &out, stdout) == 0, "shadow to tdp");
        expect(in.msr_known == out.msr_known, "every MSR");
        moved_whole(&in, &reset);
        end(&shadow);
        end(&tdp);
    }
}

static void a_soft_engine_gives_back_what_it_takes(void *ram) {
    a_hypervisor_moves(ram, false);
    a_hypervisor_moves(ram, true);
    each_row_has_moved();
}

static void what_no_cpu_can_be_in_is_refused(void *ram) {
    static struct pn_cpu_state in, bad;
    struct side s;
    expect(begin(&s, "shadow", "max", ram) == 0, "a soft engine");
    s.ops->get_state(s.engine, 0, &in);
    bad = in;
    bad.activity = 3;
    expect(s.ops->set_state(s.engine, 0, &bad) == -EINVAL, "an activity that is none");
    bad = in;
    bad.exception = 32;
    expect(s.ops->set_state(s.engine, 0, &bad) == -EINVAL, "exception 32");
    bad = in;
    bad.intr_shadow = 3;
    expect(s.ops->set_state(s.engine, 0, &bad) == -EINVAL, "a shadow that is none");
    end(&s);
}

/* ---- What KVM keeps of a guest's guest ---- */

#define HSAVE   UINT64_C(0x10000)
#define BY_KVM  (sizeof(struct kvm_nested_state) + KVM_STATE_NESTED_SVM_VMCB_SIZE)
#define VECTOR  0x55u
#define RIP_WAS UINT64_C(0x1122334455667788)

/* In the guest of its guest, as KVM says it; how: KVM_STATE_NESTED_*; event: EVENTINJ. */
static void by_kvm(struct pn_cpu_state *s, uint16_t how, uint64_t event) {
    struct kvm_nested_state head = {
        .flags = how, .format = KVM_STATE_NESTED_FORMAT_SVM, .size = BY_KVM};
    uint8_t *vmcb = s->nested + sizeof(head);
    const uint64_t rip = RIP_WAS;
    memset(s->nested, POISON, sizeof(s->nested));
    memcpy(s->nested, &head, sizeof(head));
    memcpy(vmcb + VMCB_EVENT_INJ, &event, sizeof(event));
    memcpy(vmcb + VMCB_SAVE + SAVE_RIP, &rip, sizeof(rip));
    s->nested_size = BY_KVM;
    s->in_guest = s->gif = 1;
    s->msr[PN_MSR_vm_hsave_pa] = HSAVE;
    s->msr_known |= 1ull << PN_MSR_vm_hsave_pa;
}

/* The software CPU finds L1 where VMRUN would have saved it; what VMSAVE has there stays. */
static void what_kvm_keeps_goes_on(uint8_t *ram) {
    static const struct {
        uint64_t event;
        int16_t interrupt, exception;
        uint8_t nmi;
    } owed[] = {{VECTOR | INJ_VALID, VECTOR, -1, 0},
                {VEC_NMI | INJ_VALID | (uint64_t)INJ_NMI << INJ_TYPE_SHIFT, -1, -1, 1},
                {VEC_PF | INJ_VALID | INJ_ERROR | UINT64_C(6) << 32 |
                     (uint64_t)INJ_EXCEPTION << INJ_TYPE_SHIFT,
                 -1, VEC_PF, 0},
                {VECTOR, -1, -1, 0}};
    static struct pn_cpu_state in, out;
    const uint16_t runs = KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_GIF_SET;
    struct side s;
    uint64_t rip;
    expect(begin(&s, "shadow", "max,vendor=amd,+svm", ram) == 0, "a soft engine");
    s.ops->get_state(s.engine, 0, &in);
    memset(ram + HSAVE, 0x3c, PN_PAGE_SIZE);
    for (unsigned i = 0; i < 2 * sizeof(owed) / sizeof(owed[0]); i++) {
        bool enters = i % 2;
        by_kvm(&in, runs | (enters ? KVM_STATE_NESTED_RUN_PENDING : 0),
               owed[i / 2].event);
        expect(s.ops->set_state(s.engine, 0, &in) == 0 &&
                   s.ops->get_state(s.engine, 0, &out) == 0,
               "what KVM keeps is taken");
        expect(out.interrupt == (enters ? owed[i / 2].interrupt : -1) &&
                   out.exception == (enters ? owed[i / 2].exception : -1) &&
                   out.nmi_pending == (enters && owed[i / 2].nmi) &&
                   (out.exception < 0 || out.exception_error == 6),
               "what VMRUN has to deliver is owed, and nothing else");
        expect(out.in_guest == 1 && !out.nested_size, "the guest's guest runs");
    }
    memcpy(&rip, ram + HSAVE + VMCB_SAVE + SAVE_RIP, sizeof(rip));
    expect(rip == RIP_WAS, "L1's RIP is in the save area");
    expect(ram[HSAVE + VMCB_SAVE + SAVE_CR3] == POISON, "and its CR3");
    expect(ram[HSAVE + VMCB_SAVE + SAVE_FS] == 0x3c &&
               ram[HSAVE + VMCB_SAVE + SAVE_KERNEL_GS_BASE] == 0x3c && ram[HSAVE] == 0x3c,
           "what VMSAVE has there stays");
    by_kvm(&in, runs | KVM_STATE_NESTED_RUN_PENDING,
           40 | INJ_VALID | (uint64_t)INJ_EXCEPTION << INJ_TYPE_SHIFT);
    expect(s.ops->set_state(s.engine, 0, &in) == -EINVAL, "exception 40");
    by_kvm(&in, runs, 0);
    in.nested_size = PN_NESTED_SIZE + 1;
    expect(s.ops->set_state(s.engine, 0, &in) == -EINVAL, "more than there is");
    in.nested_size = BY_KVM - 1;
    expect(s.ops->set_state(s.engine, 0, &in) == -EINVAL, "cut short");
    in.nested_size = 4;
    expect(s.ops->set_state(s.engine, 0, &in) == -ENOTSUP, "no header");
    by_kvm(&in, runs, 0);
    in.in_guest = 0;
    expect(s.ops->set_state(s.engine, 0, &in) == -EINVAL, "of a guest that has no guest");
    by_kvm(&in, runs, 0);
    in.nested[offsetof(struct kvm_nested_state, format)] = KVM_STATE_NESTED_FORMAT_VMX;
    expect(s.ops->set_state(s.engine, 0, &in) == -ENOTSUP, "VMX's");
    end(&s);
}

/* ---- CPUID ---- */

/* KVM without VMX or SVM runs long mode alone, keeps no SPEC_CTRL on AMD's processors, and shows
 * VME and HTT of the host's CPUID whatever it was given. */
static bool without_hardware(void) {
    return !access("/sys/module/kvm_pvm", F_OK);
}

/* A guest has read it, and will again. OSXSAVE is CR4's; the APIC id is a register's. */
static uint32_t host_shows(const struct side *from, uint32_t leaf, unsigned r) {
    return from->ops->host_cpu && without_hardware() && leaf == 1 && r == 3
               ? 1u << 1 | 1u << 28
               : 0;
}

static void cpuid_goes_on(const struct side *from, void *ram) {
    static const struct {
        uint32_t leaf, mask[4];
    } leaves[] = {{0, {0, ~0u, ~0u, ~0u}},
                  {1, {~0u, 0, ~(1u << 27), ~0u}},
                  {7, {0, ~0u, ~(1u << 4), ~0u}}, /* OSPKE */
                  {0x80000001u, {0, 0, ~0u, ~0u}}};
    struct side to;
    uint32_t a[4], b[4];
    expect(begin_from(&to, "tdp", "max", ram, from) == 0, to.err);
    for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++) {
        from->ops->cpuid(from->engine, leaves[i].leaf, 0, a);
        to.ops->cpuid(to.engine, leaves[i].leaf, 0, b);
        for (unsigned r = 0; r < 4; r++)
            if ((a[r] ^ b[r]) & leaves[i].mask[r] &
                ~host_shows(from, leaves[i].leaf, r)) {
                printf("leaf %x register %u: %x, then %x\n", leaves[i].leaf, r, a[r],
                       b[r]);
                expect(false, "CPUID is as it was");
            }
    }
    end(&to);
}

static void cpuid_of_a_lesser_model_goes_on(void *ram) {
    struct side from;
    expect(begin(&from, "shadow", "x86-64-v2,-popcnt,vendor=amd", ram) == 0, from.err);
    cpuid_goes_on(&from, ram);
    end(&from);
}

/* ---- The table ---- */

static void each_difference_is_found_and_named(void) {
    static struct pn_cpu_state a, b;
    char text[200];
    fill(&a);
    for (unsigned i = 0; i < pn_cpu_field_count; i++) {
        const struct pn_cpu_field *f = &pn_cpu_fields[i];
        b = a;
        pn_cpu_field_set(&b, f, pn_cpu_field_get(&a, f) ^ 1);
        FILE *out = fmemopen(text, sizeof(text), "w");
        expect(pn_cpu_state_diff(&a, &b, out) == 1, f->name);
        fclose(out);
        expect(!strncmp(text, f->name, strlen(f->name)), "the line names the field");
    }
    b = a;
    b.xsave[100] ^= 1;
    expect(pn_cpu_state_diff(&a, &b, NULL) == 1, "XSAVE");
    b = a;
    b.msr_known = 0;
    memset(b.msr, 0, sizeof(b.msr));
    expect(pn_cpu_state_diff(&a, &b, NULL) == 0, "an MSR that one does not know");
}

/* 0..15 general registers, 16 rip, 17 eflags, 18..23 selectors as gdb numbers them. */
static void gdb_has_each_of_its_first_registers(void) {
    unsigned seen[24] = {0};
    for (unsigned i = 0; i < pn_cpu_field_count; i++)
        if (pn_cpu_fields[i].gdb >= 0 && pn_cpu_fields[i].gdb < 24)
            seen[pn_cpu_fields[i].gdb]++;
    for (unsigned n = 0; n < 24; n++)
        expect(seen[n] == 1, "one field for each of gdb's numbers");
    expect(field("rsi").gdb == 4 && field("cs.sel").gdb == 18, "gdb's numbers");
}

static void a_dump_shows_registers_and_what_is_owed(void) {
    static struct pn_cpu_state s;
    char text[4000] = "";
    fill(&s);
    narrow(&s);
    FILE *out = fmemopen(text, sizeof(text), "w");
    pn_cpu_state_print(&s, out);
    fclose(out);
    expect(!strncmp(text, "rip 0000000004", 14), "rip comes first");
    expect(strstr(text, "\nrax 0000000004") && strstr(text, "\nr12 "),
           "general registers");
    expect(strstr(text, "\ncs   ") && strstr(text, "cr4 "), "segments and control");
    expect(strstr(text, "\nowed: activity 1, intr_shadow 2"), "what is owed");
}

/* ---- KVM ---- */

static struct side soft, kvm;

/* Register of a local APIC's page. */
static void put_lapic(struct pn_cpu_state *s, unsigned reg, uint32_t value) {
    memcpy(s->lapic + reg, &value, sizeof(value));
}

/* Segments that no two engines print in two ways: SVM derives G from the limit, and gives
 * SS and TR their DPL and busy bit. */
static const struct pn_segment segments[PN_SEGMENTS] = {
    [PN_ES] = {0x1b, 0x40f3, 0x1ffff, 0x10000},
    [PN_CS] = {0x10, 0xa09b, 0xffffffff, 0x20000},
    [PN_SS] = {0x18, 0xd093, 0xfffeffff, 0x30000},
    [PN_DS] = {0x20, 0x4093, 0x2ffff, 0x40000},
    [PN_FS] = {0x2b, 0xc0f3, 0x3fffff, 0x11000},
    [PN_GS] = {0x33, 0xc0f1, 0x4fffff, 0x12000},
    [PN_LDTR] = {0x38, 0x8082, 0x1fffff, 0x6000},
    [PN_TR] = {0x40, 0x808b, 0x2fffff, 0x5000},
};

/* Every component in use, with the bits alone that it can hold. */
static void vector_for_kvm(struct pn_cpu_state *s) {
    uint8_t area[PN_XSAVE_SIZE];
    const uint32_t mxcsr = 0x1fa0;
    memcpy(area, s->xsave, sizeof(area));
    memset(s->xsave, 0, sizeof(s->xsave));
    memcpy(s->xsave + FX_FCW, &(uint16_t){0x27f}, 2);
    s->xsave[FX_FTW] = 0xa5;
    memcpy(s->xsave + FX_MXCSR, &mxcsr, sizeof(mxcsr));
    for (unsigned i = 0; i < 8; i++)
        memcpy(s->xsave + FX_ST + 16 * i, area + FX_ST + 16 * i, 10);
    memcpy(s->xsave + FX_XMM, area + FX_XMM, FX_XMM_SIZE);
    s->xsave[XSAVE_HEADER] = (uint8_t)(s->xcr0 & 7);
    if (s->xcr0 & XSTATE_AVX)
        memcpy(s->xsave + AVX_AT, area + AVX_AT, FX_XMM_SIZE);
}

/* A state that KVM takes on any host: 64-bit code, values that its checks allow. Nothing
 * is owed that excludes something else. */
static void for_kvm(struct pn_cpu_state *s, const struct pn_cpu_state *reset) {
    uint32_t leaf[4];
    kvm.ops->cpuid(kvm.engine, 0xd, 0, leaf);
    fill(s);
    narrow(s);
    memcpy(s->seg, segments, sizeof(segments));
    s->rflags = FL_FIXED | FL_CF | FL_ZF | FL_IF | FL_DF;
    s->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP;
    s->cr3 = 0x3000;
    s->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_PGE;
    s->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    s->xcr0 = XSTATE_X87 | XSTATE_SSE | (leaf[0] & XSTATE_AVX);
    s->pdpte0 = s->pdpte1 = s->pdpte2 = s->pdpte3 = 0;
    s->dr6 = DR6_FIXED | 5;
    s->dr7 = DR7_FIXED | 1;
    s->exception = s->interrupt = -1;
    s->exception_has_error = s->exception_has_payload = 0;
    s->exception_error = 0;
    s->exception_payload = 0;
    s->db_pending = 0;
    s->activity = PN_RUNS;
    s->nmi_pending = s->nmi_blocked = 1;
    vector_for_kvm(s);
    /* x2APIC, with a timer that waits for the TSC. */
    s->has_lapic = 1;
    memcpy(s->lapic, reset->lapic, sizeof(s->lapic));
    put_lapic(s, 0x80, (uint32_t)s->cr8 << 4);
    put_lapic(s, 0xf0, 0x1ff);
    put_lapic(s, 0x320, 0x40041);
}

static void msrs_for_kvm(struct pn_cpu_state *s, const struct pn_cpu_state *reset) {
    s->msr[PN_MSR_star] = 0x0023001000000000;
    s->msr[PN_MSR_sfmask] = 0x47700;
    s->msr[PN_MSR_tsc_aux] = 5;
    s->msr[PN_MSR_misc_enable] = 0x1809;
    s->msr[PN_MSR_pat] = 0x0007040600070401;
    s->msr[PN_MSR_spec_ctrl] = !without_hardware();
    s->msr[PN_MSR_xss] = 0x100;
    s->msr[PN_MSR_apic_base] = reset->msr[PN_MSR_apic_base] | APIC_BASE_X2;
    s->msr[PN_MSR_tsc_deadline] = s->tsc + (UINT64_C(1) << 50);
    s->msr[PN_MSR_kvm_system_time] = 0x20001;
    s->msr[PN_MSR_kvm_steal_time] = 0x21001;
    s->msr[PN_MSR_kvm_eoi] = 0x22001;
    s->msr[PN_MSR_vm_cr] = s->msr[PN_MSR_vm_hsave_pa] = 0;
    s->msr[PN_MSR_tsc_ratio] = TSC_RATIO_ONE;
    s->msr[PN_MSR_feature_control] = s->msr[PN_MSR_debugctl] = 0;
    s->msr[PN_MSR_mtrr_def_type] = 0xc06;
    for (unsigned i = PN_MSR_mtrr_fix64k_00000; i <= PN_MSR_mtrr_fix4k_f8000; i++)
        s->msr[i] = 0x0606060606060604 + (i & 1);
    for (unsigned i = PN_MSR_mtrr_base0; i <= PN_MSR_mtrr_mask7; i++)
        s->msr[i] = 0x100000u * (i - PN_MSR_mtrr_base0 + 1);
}

/* The TSC goes on under KVM. */
static unsigned compare(const struct pn_cpu_state *in, struct pn_cpu_state *out) {
    expect(out->tsc >= in->tsc, "the TSC does not go back");
    out->tsc = in->tsc;
    return pn_cpu_state_diff(in, out, stdout);
}

static struct pn_cpu_state reset;

static void to_kvm_and_back(const struct pn_cpu_state *want, const char *what) {
    static struct pn_cpu_state a, b, c;
    int rc = soft.ops->set_state(soft.engine, 0, want);
    rc = rc ? rc : soft.ops->get_state(soft.engine, 0, &a);
    a.has_lapic = want->has_lapic; /* the machine's part of it */
    memcpy(a.lapic, want->lapic, sizeof(a.lapic));
    rc = rc ? rc : kvm.ops->set_state(kvm.engine, 0, &a);
    memset(&b, POISON, sizeof(b));
    rc = rc ? rc : kvm.ops->get_state(kvm.engine, 0, &b);
    if (rc)
        printf("%s: %s\n", what, strerror(-rc));
    expect(rc == 0 && compare(want, &b) == 0, what);
    expect(b.msr_known == want->msr_known, "every MSR");
    memset(&c, POISON, sizeof(c));
    rc = rc ? rc : soft.ops->set_state(soft.engine, 0, &b);
    rc = rc ? rc : soft.ops->get_state(soft.engine, 0, &c);
    expect(rc == 0 && compare(&b, &c) == 0, what);
    moved_whole(want, &reset);
}

/* MSRs that only some processors have; every other must be known. */
static void name_unknown_msrs(uint64_t known) {
    static const enum pn_msr_id may_lack[] = {
        PN_MSR_pkrs,       PN_MSR_spec_ctrl,       PN_MSR_xss,
        PN_MSR_tsc_adjust, PN_MSR_tsc_aux,         PN_MSR_tsc_deadline,
        PN_MSR_u_cet,      PN_MSR_s_cet,           PN_MSR_pl0_ssp,
        PN_MSR_pl1_ssp,    PN_MSR_pl2_ssp,         PN_MSR_pl3_ssp,
        PN_MSR_ssp_table,  PN_MSR_kvm_steal_time,  PN_MSR_kvm_system_time,
        PN_MSR_kvm_eoi,    PN_MSR_vm_cr,           PN_MSR_vm_hsave_pa,
        PN_MSR_tsc_ratio,  PN_MSR_feature_control, PN_MSR_debugctl};
    for (unsigned i = 0; i < sizeof(may_lack) / sizeof(may_lack[0]); i++)
        known |= 1ull << may_lack[i];
    for (unsigned i = 0; i < pn_cpu_field_count; i++)
        if (pn_cpu_fields[i].msr >= 0 && !(known >> pn_cpu_fields[i].msr & 1))
            expect(false, pn_cpu_fields[i].name);
}

static void kvm_gives_back_registers(struct pn_cpu_state *s) {
    to_kvm_and_back(s, "registers, MSRs, NMIs, the shadow of MOV SS");
    s->intr_shadow = PN_SHADOW_STI;
    to_kvm_and_back(s, "the shadow of STI");
    s->nmi_pending = s->nmi_blocked = 0;
    s->intr_shadow = PN_NO_SHADOW;
    s->activity = PN_HALTED;
    to_kvm_and_back(s, "a halted vCPU");
    s->activity = PN_RUNS;
}

static void kvm_gives_back_what_is_owed(const struct pn_cpu_state *registers) {
    static struct pn_cpu_state s;
    s = *registers;
    s.interrupt = 0x31;
    to_kvm_and_back(&s, "an interrupt on its way");
    s.interrupt = -1;
    s.db_pending = DR6_BS | 2;
    to_kvm_and_back(&s, "a debug trap that is owed");
    s.exception = VEC_GP;
    s.exception_has_error = 1;
    s.exception_error = 0x18;
    to_kvm_and_back(&s, "an exception on its way, and a debug trap behind it");
    s.db_pending = 0;
    s.exception = VEC_PF;
    s.exception_has_payload = 1;
    s.exception_error = PN_PF_WRITE;
    s.exception_payload = 0x123456;
    to_kvm_and_back(&s, "a page fault that has not reached CR2");
}

/* As they were loaded: memory has others meanwhile. */
static void kvm_gives_back_pdptes(const struct pn_cpu_state *registers) {
    static struct pn_cpu_state s;
    s = *registers;
    s.cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_ET;
    s.efer = EFER_NXE;
    s.seg[PN_CS].attr = 0xc09b;
    s.cr3 = TABLE;
    s.pdpte0 = 0x11001;
    s.pdpte1 = 0x12001;
    s.pdpte2 = 0x13001;
    s.pdpte3 = 0x14001;
    to_kvm_and_back(&s, "PDPTEs");
}

/* What KVM has no place for is the engine's to keep, until the vCPU may have executed. */
static void what_kvm_cannot_hold_ends_with_the_next_run(const struct pn_cpu_state *s) {
    static struct pn_cpu_state out;
    kvm.ops->set_state(kvm.engine, 0, s);
    kvm.ops->kick(kvm.engine, 0);
    expect(kvm.ops->run(kvm.engine, 0, 0) == PN_EXIT_STOP, "a kicked vCPU does not run");
    kvm.ops->get_state(kvm.engine, 0, &out);
    expect(s->fault_streak && !out.fault_streak, "a streak of faults is over");
    expect(out.msr[PN_MSR_pkrs] == s->msr[PN_MSR_pkrs],
           "an MSR that KVM lacks is not the guest's to change");
}

static void need_not_move(const char *const *names) {
    for (unsigned i = 0; i < pn_cpu_field_count; i++)
        for (unsigned k = 0; names[k]; k++)
            moved[i] |= !strcmp(pn_cpu_fields[i].name, names[k]);
}

/* A guest of KVM's has neither SVM nor VMX here: their rows are moved between the software
 * CPUs. */
static const char *const of_hypervisors[] = {
    "vm_cr",        "vm_hsave_pa",     "gif",       "in_guest", "in_vmx",
    "in_vmx_guest", "feature_control", "debugctl",  "vmx_init", "vmx_trap",
    "vmx_timer_at", "vmx_after",       "tsc_ratio", NULL};
static const char *const of_hardware[] = {"pdpte0", "pdpte1",    "pdpte2",
                                          "pdpte3", "spec_ctrl", NULL};

static void kvm_gives_back_what_it_takes(void) {
    static struct pn_cpu_state s;
    expect(kvm.ops->get_state(kvm.engine, 0, &reset) == 0, "KVM's state");
    expect(reset.msr[PN_MSR_misc_enable] & 1, "fast strings are on after reset");
    name_unknown_msrs(reset.msr_known);
    for_kvm(&s, &reset);
    msrs_for_kvm(&s, &reset);
    kvm_gives_back_registers(&s);
    kvm_gives_back_what_is_owed(&s);
    need_not_move(of_hypervisors);
    if (without_hardware())
        need_not_move(of_hardware);
    else
        kvm_gives_back_pdptes(&s);
    each_row_has_moved();
    what_kvm_cannot_hold_ends_with_the_next_run(&s);
}

/* The software CPU names all that it knows; KVM_SET_XSAVE refuses what the vCPU lacks. */
static void kvm_is_not_given_a_component_that_it_lacks(void *ram) {
    static struct pn_cpu_state s;
    struct side plain;
    expect(begin(&plain, "kvm", "max,-avx", ram) == 0, plain.err);
    expect(plain.ops->get_state(plain.engine, 0, &s) == 0, "KVM's state");
    s.xsave[XSAVE_HEADER] = XSTATE_X87 | XSTATE_SSE | XSTATE_AVX;
    expect(plain.ops->set_state(plain.engine, 0, &s) == 0, "KVM takes it without AVX");
    expect(plain.ops->get_state(plain.engine, 0, &s) == 0, "KVM's state");
    expect(!(s.xsave[XSAVE_HEADER] & XSTATE_AVX), "no AVX comes back");
    end(&plain);
}

static int with_kvm(void *ram) {
    int rc = begin(&kvm, "kvm", "max", ram);
    if (rc) {
        printf("skipped: %s\n", kvm.err);
        return SKIPPED;
    }
    expect(begin(&soft, "shadow", "max", ram) == 0, "a soft engine");
    kvm_gives_back_what_it_takes();
    cpuid_goes_on(&kvm, ram);
    kvm_is_not_given_a_component_that_it_lacks(ram);
    end(&kvm);
    end(&soft);
    return failures ? 1 : 0;
}

int main(int argc, char **argv) {
    void *ram =
        mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ram == MAP_FAILED)
        return 1;
    if (argc > 1 && !strcmp(argv[1], "kvm"))
        return with_kvm(ram);
    cpuid_of_a_lesser_model_goes_on(ram);
    each_difference_is_found_and_named();
    gdb_has_each_of_its_first_registers();
    a_dump_shows_registers_and_what_is_owed();
    a_soft_engine_gives_back_what_it_takes(ram);
    what_no_cpu_can_be_in_is_refused(ram);
    what_kvm_keeps_goes_on(ram);
    return failures ? 1 : 0;
}
