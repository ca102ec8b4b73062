/* SPDX-License-Identifier: MIT */
/*
 * A KVM vCPU's state to and from the engine-neutral one.
 *
 * Order of setting matters to KVM: CPUID stands, then system registers (paging, EFER),
 * then XCR0 before XSAVE, MSRs, and events last (Documentation/virt/kvm/api.rst).
 */
#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "engine/kvm_vm.h"

/* What a running guest keeps in MSRs; those that the host's KVM refuses are left out. */
static const uint32_t msr_list[] = {
    0x10,  0x174,      0x175,      0x176,      0x1a0,      0x277,      0x48,       0x3b,
    0x6e0, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102, 0xc0000103, 0x2ff,
    0x250, 0x258,      0x259,      0x268,      0x269,      0x26a,      0x26b,      0x26c,
    0x26d, 0x26e,      0x26f,      0x200,      0x201,      0x202,      0x203,      0x204,
    0x205, 0x206,      0x207,      0x208,      0x209,      0x20a,      0x20b,      0x20c,
    0x20d, 0x20e,      0x20f,      0xda0,
};
#define MSR_LIST_COUNT (sizeof(msr_list) / sizeof(msr_list[0]))

struct msr_buffer {
    struct kvm_msrs head;
    struct kvm_msr_entry entry[PN_MSRS_MAX];
};
_Static_assert(MSR_LIST_COUNT <= PN_MSRS_MAX && MSR_LIST_COUNT <= 64, "msr_list");

static void from_segment(struct pn_segment *d, const struct kvm_segment *s) {
    d->sel = s->selector;
    d->base = s->base;
    d->limit = s->limit;
    d->attr =
        (uint32_t)(s->type | s->s << 4 | s->dpl << 5 | s->present << 7 | s->avl << 12 |
                   s->l << 13 | s->db << 14 | s->g << 15 | s->unusable << 16);
}

static void to_segment(struct kvm_segment *d, const struct pn_segment *s) {
    *d = (struct kvm_segment){
        .base = s->base,
        .limit = s->limit,
        .selector = s->sel,
        .type = s->attr & 15,
        .s = s->attr >> 4 & 1,
        .dpl = s->attr >> 5 & 3,
        .present = s->attr >> 7 & 1,
        .avl = s->attr >> 12 & 1,
        .l = s->attr >> 13 & 1,
        .db = s->attr >> 14 & 1,
        .g = s->attr >> 15 & 1,
        .unusable = s->attr >> 16 & 1,
    };
}

static struct kvm_segment *segment_of(struct kvm_sregs *r, unsigned i) {
    struct kvm_segment *const seg[PN_SEGMENTS] = {
        [PN_ES] = &r->es, [PN_CS] = &r->cs, [PN_SS] = &r->ss,    [PN_DS] = &r->ds,
        [PN_FS] = &r->fs, [PN_GS] = &r->gs, [PN_LDTR] = &r->ldt, [PN_TR] = &r->tr,
    };
    return seg[i];
}

/* KVM's order of general registers is its own. */
static void regs_from(struct pn_cpu_state *s, const struct kvm_regs *r) {
    const uint64_t gpr[16] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp,
                              r->rsi, r->rdi, r->r8,  r->r9,  r->r10, r->r11,
                              r->r12, r->r13, r->r14, r->r15};
    memcpy(s->gpr, gpr, sizeof(gpr));
    s->rip = r->rip;
    s->rflags = r->rflags;
}

static void regs_to(struct kvm_regs *r, const struct pn_cpu_state *s) {
    *r = (struct kvm_regs){
        .rax = s->gpr[0],
        .rcx = s->gpr[1],
        .rdx = s->gpr[2],
        .rbx = s->gpr[3],
        .rsp = s->gpr[4],
        .rbp = s->gpr[5],
        .rsi = s->gpr[6],
        .rdi = s->gpr[7],
        .r8 = s->gpr[8],
        .r9 = s->gpr[9],
        .r10 = s->gpr[10],
        .r11 = s->gpr[11],
        .r12 = s->gpr[12],
        .r13 = s->gpr[13],
        .r14 = s->gpr[14],
        .r15 = s->gpr[15],
        .rip = s->rip,
        .rflags = s->rflags,
    };
}

/* Where PKRU lies in the standard format is the host CPU's choice (CPUID leaf 0dh). */
static unsigned pkru_offset(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(0xd, XSTATE_PKRU_NR, &a, &b, &c, &d) || a < 4 || b > 4092)
        return 0;
    return b;
}

static int get_system(struct kvm_vcpu *v, struct pn_cpu_state *s) {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_debugregs debug;
    struct kvm_xcrs xcrs;
    if (ioctl(v->fd, KVM_GET_REGS, &regs) < 0 ||
        ioctl(v->fd, KVM_GET_SREGS, &sregs) < 0 ||
        ioctl(v->fd, KVM_GET_DEBUGREGS, &debug) < 0)
        return -errno;
    regs_from(s, &regs);
    for (unsigned i = 0; i < PN_SEGMENTS; i++)
        from_segment(&s->seg[i], segment_of(&sregs, i));
    s->gdtr.base = sregs.gdt.base, s->gdtr.limit = sregs.gdt.limit;
    s->idtr.base = sregs.idt.base, s->idtr.limit = sregs.idt.limit;
    s->cr0 = sregs.cr0, s->cr2 = sregs.cr2, s->cr3 = sregs.cr3, s->cr4 = sregs.cr4;
    s->cr8 = sregs.cr8, s->efer = sregs.efer;
    memcpy(s->dr, debug.db, sizeof(debug.db));
    s->dr[6] = debug.dr6, s->dr[7] = debug.dr7;
    s->xcr0 = 1;
    if (ioctl(v->fd, KVM_GET_XCRS, &xcrs) == 0 && xcrs.nr_xcrs)
        s->xcr0 = xcrs.xcrs[0].value;
    s->msr[s->msr_count++] = (struct pn_msr){MSR_APIC_BASE, sregs.apic_base};
    return 0;
}

/* Which of msr_list this KVM has: asked once, for the first vCPU. */
static uint64_t msrs_known(struct kvm_vcpu *v) {
    uint64_t known = v->engine->msrs_known;
    for (size_t i = 0; !known && i < MSR_LIST_COUNT; i++) {
        struct msr_buffer m = {.head.nmsrs = 1, .entry[0].index = msr_list[i]};
        if (ioctl(v->fd, KVM_GET_MSRS, &m) == 1)
            v->engine->msrs_known |= 1ull << i;
    }
    return v->engine->msrs_known;
}

/* All in one call: each ioctl costs as much as an instruction that KVM emulates. */
static void get_msrs(struct kvm_vcpu *v, struct pn_cpu_state *s) {
    uint64_t known = msrs_known(v);
    struct msr_buffer m = {.head.nmsrs = 0};
    for (size_t i = 0; i < MSR_LIST_COUNT; i++)
        if (known >> i & 1)
            m.entry[m.head.nmsrs++].index = msr_list[i];
    int n = ioctl(v->fd, KVM_GET_MSRS, &m);
    for (int i = 0; i < n && s->msr_count < PN_MSRS_MAX; i++) {
        if (m.entry[i].index == MSR_TSC)
            s->tsc = m.entry[i].data;
        else
            s->msr[s->msr_count++] = (struct pn_msr){m.entry[i].index, m.entry[i].data};
    }
}

static int get_events(struct kvm_vcpu *v, struct pn_cpu_state *s) {
    struct kvm_vcpu_events ev;
    struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_RUNNABLE};
    if (ioctl(v->fd, KVM_GET_VCPU_EVENTS, &ev) < 0)
        return -errno;
    ioctl(v->fd, KVM_GET_MP_STATE, &mp); /* refused without an in-kernel irqchip */
    s->pending.halted = mp.mp_state == KVM_MP_STATE_HALTED;
    s->pending.wait_sipi = mp.mp_state == KVM_MP_STATE_UNINITIALIZED ||
                           mp.mp_state == KVM_MP_STATE_INIT_RECEIVED;
    s->pending.intr_shadow = ev.interrupt.shadow != 0;
    /* An NMI on its way in comes again; it blocks none before. */
    s->pending.nmi_pending = ev.nmi.pending || ev.nmi.injected;
    s->pending.nmi_blocked = ev.nmi.masked && !ev.nmi.injected;
    s->pending.interrupt = ev.interrupt.injected ? (int16_t)ev.interrupt.nr : (int16_t)-1;
    s->pending.exception = ev.exception.injected || ev.exception.pending
                               ? (int16_t)ev.exception.nr
                               : (int16_t)-1;
    s->pending.has_error = ev.exception.has_error_code;
    s->pending.error = ev.exception.error_code;
    return 0;
}

int kvm_get_cpu(struct kvm_vcpu *v, struct pn_cpu_state *s) {
    memset(s, 0, sizeof(*s));
    int rc = get_system(v, s);
    if (rc == 0)
        rc = get_events(v, s);
    if (rc)
        return rc;
    get_msrs(v, s);
    struct kvm_xsave xsave;
    if (ioctl(v->fd, KVM_GET_XSAVE, &xsave) < 0)
        return -errno;
    memcpy(s->xsave, &xsave, sizeof(s->xsave));
    uint64_t present;
    memcpy(&present, s->xsave + XSAVE_HEADER, sizeof(present));
    unsigned offset = pkru_offset();
    if (offset && present & XSTATE_PKRU)
        memcpy(&s->pkru, s->xsave + offset, sizeof(s->pkru));
    return 0;
}

int kvm_get_state(struct pn_engine *e, unsigned cpu, struct pn_cpu_state *s) {
    struct kvm_lapic_state lapic;
    int rc = kvm_get_cpu(&e->vcpu[cpu], s);
    if (rc == 0 && ioctl(e->vcpu[cpu].fd, KVM_GET_LAPIC, &lapic) < 0)
        rc = -errno;
    if (rc)
        return rc;
    kvm_pv_get(&e->vcpu[cpu], s);
    s->has_lapic = 1;
    memcpy(s->lapic, lapic.regs, sizeof(s->lapic));
    return 0;
}

/* QEMU's software CPU, which the lab's SVM is made of, refuses ring 3 every port while TR
 * is a busy TSS, as it always is (target/i386/tcg/seg_helper.c, check_io: type 9 only;
 * QEMU 7.2). There the type goes in as QEMU has it after LTR. */
static bool tr_must_be_available(const struct pn_engine *e) {
    unsigned max, b, c, d;
    if (strcmp(e->host.vendor, "kvm_amd"))
        return false;
    __cpuid(0x40000000, max, b, c, d);
    return b == 0x54474354 && c == 0x43544743 && d == 0x47435447; /* TCGTCGTCGTCG */
}

static int set_system(struct kvm_vcpu *v, const struct pn_cpu_state *s) {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    if (ioctl(v->fd, KVM_GET_SREGS, &sregs) < 0)
        return -errno;
    for (unsigned i = 0; i < PN_SEGMENTS; i++)
        to_segment(segment_of(&sregs, i), &s->seg[i]);
    if (tr_must_be_available(v->engine))
        sregs.tr.type &= 13;
    sregs.gdt.base = s->gdtr.base, sregs.gdt.limit = s->gdtr.limit;
    sregs.idt.base = s->idtr.base, sregs.idt.limit = s->idtr.limit;
    sregs.cr0 = s->cr0, sregs.cr2 = s->cr2, sregs.cr3 = s->cr3, sregs.cr4 = s->cr4;
    sregs.cr8 = s->cr8, sregs.efer = s->efer;
    memset(sregs.interrupt_bitmap, 0, sizeof(sregs.interrupt_bitmap));
    for (unsigned i = 0; i < s->msr_count; i++)
        if (s->msr[i].index == MSR_APIC_BASE)
            sregs.apic_base = s->msr[i].value;
    regs_to(&regs, s);
    if (ioctl(v->fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(v->fd, KVM_SET_REGS, &regs) < 0)
        return -errno;
    struct kvm_debugregs debug = {.dr6 = s->dr[6], .dr7 = s->dr[7]};
    memcpy(debug.db, s->dr, sizeof(debug.db));
    return ioctl(v->fd, KVM_SET_DEBUGREGS, &debug) < 0 ? -errno : 0;
}

static int set_vector(struct kvm_vcpu *v, const struct pn_cpu_state *s) {
    struct kvm_xcrs xcrs = {.nr_xcrs = 1};
    xcrs.xcrs[0].value = s->xcr0 ? s->xcr0 : 1;
    if (ioctl(v->fd, KVM_SET_XCRS, &xcrs) < 0)
        return -errno;
    struct kvm_xsave xsave;
    uint8_t *area = (uint8_t *)&xsave;
    uint64_t present;
    uint32_t mxcsr;
    memcpy(area, s->xsave, sizeof(xsave));
    memcpy(&present, area + XSAVE_HEADER, sizeof(present));
    memcpy(&mxcsr, area + FX_MXCSR, sizeof(mxcsr));
    if (!(present & XSTATE_SSE) && mxcsr != MXCSR_INIT) {
        memset(area + FX_XMM, 0, FX_XMM_SIZE); /* KVM takes MXCSR with SSE only */
        present |= XSTATE_SSE;
    }
    unsigned offset = pkru_offset();
    if (offset && s->pkru) {
        present |= XSTATE_PKRU;
        memcpy(area + offset, &s->pkru, sizeof(s->pkru));
    }
    memcpy(area + XSAVE_HEADER, &present, sizeof(present));
    return ioctl(v->fd, KVM_SET_XSAVE, &xsave) < 0 ? -errno : 0;
}

/* KVM takes a TSC within a second of what it would be for an attempt to keep the vCPUs
 * together, and gives the others' offset. That is right for every vCPU but the first,
 * whose guest may be younger than that second, and would see its TSC go back. */
static void set_tsc(struct kvm_vcpu *v, uint64_t tsc) {
    struct msr_buffer m = {.head.nmsrs = 1, .entry = {{.index = MSR_TSC, .data = tsc}}};
    ioctl(v->fd, KVM_SET_MSRS, &m);
#ifdef KVM_VCPU_TSC_OFFSET /* Linux 5.16 */
    uint64_t offset;
    struct kvm_device_attr a = {.group = KVM_VCPU_TSC_CTRL,
                                .attr = KVM_VCPU_TSC_OFFSET,
                                .addr = (uintptr_t)&offset};
    if (v->index || ioctl(v->fd, KVM_GET_DEVICE_ATTR, &a) < 0 ||
        ioctl(v->fd, KVM_GET_MSRS, &m) != 1)
        return;
    offset += tsc - m.entry[0].data;
    ioctl(v->fd, KVM_SET_DEVICE_ATTR, &a);
#endif
}

/* What this KVM does not have, its guest never set: KVM stops there, and goes on after
 * it. The TSC goes first: the TSC deadline is compared with it. */
static void set_msrs(struct kvm_vcpu *v, const struct pn_cpu_state *s) {
    struct msr_buffer m = {.head.nmsrs = 0};
    if (s->tsc)
        set_tsc(v, s->tsc);
    for (unsigned i = 0; i < s->msr_count && m.head.nmsrs < PN_MSRS_MAX; i++)
        if (s->msr[i].index != MSR_APIC_BASE)
            m.entry[m.head.nmsrs++] =
                (struct kvm_msr_entry){.index = s->msr[i].index, .data = s->msr[i].value};
    while (m.head.nmsrs) {
        int done = ioctl(v->fd, KVM_SET_MSRS, &m);
        if (done < 0 || (unsigned)done >= m.head.nmsrs)
            return;
        m.head.nmsrs -= (unsigned)done + 1;
        memmove(m.entry, m.entry + done + 1, m.head.nmsrs * sizeof(m.entry[0]));
    }
}

static int set_lapic(struct kvm_vcpu *v, const struct pn_cpu_state *s) {
    struct kvm_lapic_state lapic;
    if (!s->has_lapic)
        return 0;
    memcpy(lapic.regs, s->lapic, sizeof(lapic.regs));
    return ioctl(v->fd, KVM_SET_LAPIC, &lapic) < 0 ? -errno : 0;
}

static int set_events(struct kvm_vcpu *v, const struct pn_cpu_state *s) {
    struct kvm_vcpu_events ev;
    if (ioctl(v->fd, KVM_GET_VCPU_EVENTS, &ev) < 0)
        return -errno;
    ev.exception.injected = s->pending.exception >= 0;
    ev.exception.nr = s->pending.exception >= 0 ? (uint8_t)s->pending.exception : 0;
    ev.exception.has_error_code = s->pending.has_error;
    ev.exception.error_code = s->pending.error;
    ev.interrupt.injected = s->pending.interrupt >= 0;
    ev.interrupt.nr = s->pending.interrupt >= 0 ? (uint8_t)s->pending.interrupt : 0;
    ev.interrupt.soft = 0;
    ev.interrupt.shadow = s->pending.intr_shadow ? KVM_X86_SHADOW_INT_STI : 0;
    ev.nmi.injected = 0;
    ev.nmi.pending = s->pending.nmi_pending;
    ev.nmi.masked = s->pending.nmi_blocked;
    ev.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
    return ioctl(v->fd, KVM_SET_VCPU_EVENTS, &ev) < 0 ? -errno : 0;
}

int kvm_set_state(struct pn_engine *e, unsigned cpu, const struct pn_cpu_state *s) {
    struct kvm_vcpu *v = &e->vcpu[cpu];
    if (s->msr_count > PN_MSRS_MAX)
        return -EINVAL;
    int rc = set_system(v, s);
    if (rc == 0)
        rc = set_vector(v, s);
    if (rc == 0)
        rc = set_lapic(v, s);
    if (rc)
        return rc;
    set_msrs(v, s);
    rc = set_events(v, s);
    if (rc)
        return rc;
    struct kvm_mp_state mp = {.mp_state = s->pending.wait_sipi
                                              ? KVM_MP_STATE_UNINITIALIZED
                                          : s->pending.halted ? KVM_MP_STATE_HALTED
                                                              : KVM_MP_STATE_RUNNABLE};
    ioctl(v->fd, KVM_SET_MP_STATE, &mp); /* refused without an in-kernel irqchip */
    return 0;
}
