/* SPDX-License-Identifier: MIT */
/*
 * A KVM vCPU's state to and from the engine-neutral one.
 *
 * Order of setting matters to KVM: CPUID stands, then system registers (paging, EFER),
 * then what it keeps of a guest's guest (kvm_nested.c),
 * XCR0 before XSAVE, MSRs, and events last (Documentation/virt/kvm/api.rst).
 */
#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cpu/model.h"
#include "engine/kvm_vm.h"

_Static_assert(offsetof(struct kvm_sregs2, flags) ==
                   offsetof(struct kvm_sregs, interrupt_bitmap),
               "kvm_sregs2 begins as kvm_sregs does");

/* The vCPU as KVM gives and takes it; the rows of penumbra/cpu_state.inc name members. */
struct parts {
    struct kvm_regs regs;
    struct kvm_sregs2 sregs;
    struct kvm_debugregs debug;
    struct kvm_xcrs xcrs;
    uint32_t pkru; /* in KVM_GET_XSAVE's area */
    uint64_t ssp;  /* a register of KVM's own numbering */
    uint64_t tsc;  /* an MSR */
    uint64_t rng;  /* not KVM's: struct kvm_kept has it */
};

#define MSR_BIT(id) (1ull << PN_MSR_##id)
/* IA32_APIC_BASE is in sregs. */
#define ALL_MSRS (((1ull << PN_MSRS) - 1) & ~MSR_BIT(apic_base))
/* Those of the paravirtual interface: no single instruction changes them. */
#define PV_MSRS (MSR_BIT(kvm_system_time) | MSR_BIT(kvm_steal_time) | MSR_BIT(kvm_eoi))

static const uint32_t msr_index[PN_MSRS] = {
#define PN_MSR(name, index, soft, present, take, reset) index,
#define PN_MSR_BUS(name, index, present)                index,
#include "penumbra/cpu_state.inc"
};

struct msr_buffer {
    struct kvm_msrs head;
    struct kvm_msr_entry entry[PN_MSRS + 1];
};

void kvm_state_begin(struct pn_engine *e) {
    struct kvm_enable_cap cap = {.cap = KVM_CAP_EXCEPTION_PAYLOAD, .args[0] = 1};
    e->sregs2 = ioctl(e->vm, KVM_CHECK_EXTENSION, KVM_CAP_SREGS2) > 0;
    e->payload = ioctl(e->vm, KVM_ENABLE_CAP, &cap) == 0;
}

/* The shadow-stack pointer, of a KVM that has shadow stacks (Linux 6.18,
 * Documentation/virt/kvm/api.rst, "KVM_SET_ONE_REG"). Others have their guests without. */
#define REG_SSP UINT64_C(0x2030000300000000)

static uint64_t msrs_known(struct kvm_vcpu *v);

static void one_reg(struct kvm_vcpu *v, unsigned long request, uint64_t *value) {
    struct kvm_one_reg r = {.id = REG_SSP, .addr = (uintptr_t)value};
    if (msrs_known(v) & MSR_BIT(pl0_ssp))
        ioctl(v->fd, request, &r);
}

/* ---- Segments ---- */

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

/* ---- Get ---- */

/* Where a component lies in the standard format is the host CPU's choice (CPUID leaf 0dh).
 * Return: 0 where the guest has it not. */
static unsigned host_offset(const struct pn_engine *e, unsigned nr, unsigned size) {
    unsigned a, b, c, d;
    if (!(e->xcr0 >> nr & 1) || !__get_cpuid_count(0xd, nr, &a, &b, &c, &d) || a < size ||
        b > sizeof(struct kvm_xsave) - size)
        return 0;
    return b;
}

static unsigned pkru_offset(const struct pn_engine *e) {
    return host_offset(e, XSTATE_PKRU_NR, 4);
}

/* The parts behind the header between the neutral area and KVM's. */
static void copy_parts(const struct pn_engine *e, uint8_t *neutral, uint8_t *kvm,
                       bool to_kvm) {
    for (unsigned i = 0; i < XSAVE_PARTS; i++) {
        const struct xsave_part *p = &xsave_parts[i];
        unsigned at = host_offset(e, p->nr, p->size);
        if (at && to_kvm)
            memcpy(kvm + at, neutral + p->at, p->size);
        else if (at)
            memcpy(neutral + p->at, kvm + at, p->size);
    }
}

/* PAE paging, whose PDPTEs are registers. */
static bool has_pdptes(uint64_t cr0, uint64_t cr4, uint64_t efer) {
    return cr0 & CR0_PG && cr4 & CR4_PAE && !(efer & EFER_LMA);
}

/* A KVM without KVM_GET_SREGS2 keeps the PDPTEs to itself: memory has them, unless the
 * guest has changed it since. */
static int get_sregs(struct kvm_vcpu *v, struct kvm_sregs2 *r) {
    struct kvm_sregs old;
    if (v->engine->sregs2)
        return ioctl(v->fd, KVM_GET_SREGS2, r);
    memset(r, 0, sizeof(*r));
    if (ioctl(v->fd, KVM_GET_SREGS, &old) < 0)
        return -1;
    memcpy(r, &old, offsetof(struct kvm_sregs2, flags));
    if (has_pdptes(r->cr0, r->cr4, r->efer))
        kvm_read_phys(v->engine, r->cr3 & 0xffffffe0u, r->pdptrs, sizeof(r->pdptrs));
    return 0;
}

/* MXCSR_MASK is the host's, the bytes behind the legacy state are the kernel's, and PKRU in
 * the neutral state is a register of its own. */
static int get_vector(struct kvm_vcpu *v, struct pn_cpu_state *s, struct parts *k) {
    struct kvm_xsave xsave;
    uint64_t present;
    k->xcrs.xcrs[0].value = XSTATE_X87;
    ioctl(v->fd, KVM_GET_XCRS, &k->xcrs); /* a host without XSAVE has none */
    if (ioctl(v->fd, KVM_GET_XSAVE, &xsave) < 0)
        return -1;
    memcpy(s->xsave, &xsave, XSAVE_EXTENDED);
    copy_parts(v->engine, s->xsave, (uint8_t *)&xsave, false);
    memset(s->xsave + FX_MASK, 0, 4);
    memset(s->xsave + FX_LEGACY, 0, FX_SIZE - FX_LEGACY);
    unsigned offset = pkru_offset(v->engine);
    k->pkru = v->kept.pkru;
    if (offset)
        memcpy(&k->pkru, (uint8_t *)&xsave + offset, sizeof(k->pkru));
    memcpy(&present, s->xsave + XSAVE_HEADER, sizeof(present));
    present &= CPU_VEC_MASK;
    memcpy(s->xsave + XSAVE_HEADER, &present, sizeof(present));
    return 0;
}

/* Which MSRs this KVM has: asked once, for the first vCPU. */
static uint64_t msrs_known(struct kvm_vcpu *v) {
    for (unsigned i = 0; !v->engine->msrs_asked && i < PN_MSRS; i++) {
        struct msr_buffer m = {.head.nmsrs = 1, .entry[0].index = msr_index[i]};
        if (ioctl(v->fd, KVM_GET_MSRS, &m) == 1)
            v->engine->msrs_known |= 1ull << i;
    }
    v->engine->msrs_asked = true;
    return v->engine->msrs_known;
}

/* All in one call: each ioctl costs as much as an instruction that KVM emulates. */
static void get_msrs(struct kvm_vcpu *v, struct pn_cpu_state *s, uint64_t which,
                     uint64_t *tsc) {
    struct msr_buffer m = {.head.nmsrs = 1, .entry[0].index = MSR_TSC};
    uint8_t id[PN_MSRS + 1];
    memcpy(s->msr, v->kept.msr, sizeof(s->msr));
    s->msr_known = v->kept.msr_known;
    which &= msrs_known(v);
    for (uint8_t i = 0; i < PN_MSRS; i++) {
        if (!(which >> i & 1))
            continue;
        id[m.head.nmsrs] = i;
        m.entry[m.head.nmsrs++].index = msr_index[i];
    }
    int n = ioctl(v->fd, KVM_GET_MSRS, &m);
    if (n > 0)
        *tsc = m.entry[0].data;
    for (int i = 1; i < n; i++) {
        s->msr[id[i]] = m.entry[i].data;
        s->msr_known |= 1ull << id[i];
        if (v->kept.holds && v->kept.msr_refused >> id[i] & 1)
            s->msr[id[i]] = v->kept.msr[id[i]];
    }
}

/* A #DB that KVM has still to deliver, with its bits of DR6, is a debug trap owed. */
static void get_exception(struct pn_cpu_state *s, const struct kvm_vcpu_events *ev) {
    s->exception = -1;
    if (!ev->exception.injected && !ev->exception.pending)
        return;
    bool payload = ev->flags & KVM_VCPUEVENT_VALID_PAYLOAD && ev->exception_has_payload;
    if (payload && ev->exception.nr == VEC_DB) {
        s->db_pending = (uint32_t)ev->exception_payload;
        return;
    }
    s->exception = ev->exception.nr;
    s->exception_has_error = ev->exception.has_error_code;
    s->exception_error = ev->exception.error_code;
    s->exception_has_payload = payload;
    s->exception_payload = payload ? ev->exception_payload : 0;
}

static void get_activity(struct kvm_vcpu *v, struct pn_cpu_state *s) {
    struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_RUNNABLE};
    ioctl(v->fd, KVM_GET_MP_STATE, &mp); /* refused without an in-kernel irqchip */
    s->activity = mp.mp_state == KVM_MP_STATE_HALTED ? PN_HALTED
                  : mp.mp_state == KVM_MP_STATE_UNINITIALIZED ||
                          mp.mp_state == KVM_MP_STATE_INIT_RECEIVED
                      ? PN_WAITS_SIPI
                      : PN_RUNS;
}

/* SVM does not tell the two apart, and says both. */
static uint8_t shadow_of(unsigned kvm, const struct kvm_kept *kept) {
    if (kvm == (KVM_X86_SHADOW_INT_STI | KVM_X86_SHADOW_INT_MOV_SS))
        return kept->holds ? kept->intr_shadow : PN_SHADOW_STI;
    return kvm & KVM_X86_SHADOW_INT_STI      ? PN_SHADOW_STI
           : kvm & KVM_X86_SHADOW_INT_MOV_SS ? PN_SHADOW_MOV_SS
                                             : PN_NO_SHADOW;
}

static int get_events(struct kvm_vcpu *v, struct pn_cpu_state *s) {
    struct kvm_vcpu_events ev;
    if (ioctl(v->fd, KVM_GET_VCPU_EVENTS, &ev) < 0)
        return -1;
    get_activity(v, s);
    s->intr_shadow = shadow_of(ev.interrupt.shadow, &v->kept);
    /* An NMI on its way in comes again; it blocks none before. */
    s->nmi_pending = ev.nmi.pending || ev.nmi.injected;
    s->nmi_blocked = ev.nmi.masked && !ev.nmi.injected;
    s->interrupt = ev.interrupt.injected ? (int16_t)ev.interrupt.nr : (int16_t)-1;
    get_exception(s, &ev);
    if (v->kept.holds) {
        s->fault_streak = v->kept.fault_streak;
        s->db_pending |= v->kept.db_pending;
        if (!s->in_guest) {
            s->vmcb = v->kept.vmcb;
            s->v_int_ctl = v->kept.v_int_ctl;
            s->pauses = v->kept.pauses;
        }
        s->vmxon = v->kept.vmxon;
        s->vmcs = v->kept.vmcs;
        s->vmx_timer_at = v->kept.vmx_timer_at;
    }
    return 0;
}

static int get_parts(struct kvm_vcpu *v, struct pn_cpu_state *s, uint64_t msrs) {
    struct parts k = {.rng = v->kept.rng, .ssp = v->kept.ssp};
    memset(s, 0, sizeof(*s));
    if (ioctl(v->fd, KVM_GET_REGS, &k.regs) < 0 || get_sregs(v, &k.sregs) < 0 ||
        ioctl(v->fd, KVM_GET_DEBUGREGS, &k.debug) < 0 || get_vector(v, s, &k) < 0 ||
        kvm_get_nested(v, s) < 0 || get_events(v, s) < 0)
        return -errno;
    get_msrs(v, s, msrs, &k.tsc);
    one_reg(v, KVM_GET_ONE_REG, &k.ssp);
    s->msr[PN_MSR_apic_base] = k.sregs.apic_base;
    s->msr_known |= MSR_BIT(apic_base);
#define PN_GPR(nr, name, gdb) s->gpr[nr] = k.regs.name;
#define PN_SEG(id, name, gdb, kvm, sel_, attr_, base_)                                   \
    from_segment(&s->seg[PN_##id], &k.kvm);
#define PN_REG(name, type, digits, gdb, soft, kvm, reset, init) s->name = (type)k.kvm;
#define PN_REG_BY(name, type, digits, gdb, kvm)                 s->name = (type)k.kvm;
#include "penumbra/cpu_state.inc"
    return 0;
}

int kvm_get_cpu(struct kvm_vcpu *v, struct pn_cpu_state *s) {
    return get_parts(v, s, ALL_MSRS & ~PV_MSRS);
}

int kvm_get_state(struct pn_engine *e, unsigned cpu, struct pn_cpu_state *s) {
    struct kvm_lapic_state lapic;
    if (e->messages)
        kvm_messages_end(e);
    int rc = get_parts(&e->vcpu[cpu], s, ALL_MSRS);
    if (rc == 0)
        rc = kvm_get_lapic(&e->vcpu[cpu], &lapic);
    if (rc)
        return rc;
    get_activity(&e->vcpu[cpu], s);
    s->has_lapic = 1;
    memcpy(s->lapic, lapic.regs, sizeof(s->lapic));
    return 0;
}

/* ---- Set ---- */

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

static int set_sregs(struct kvm_vcpu *v, struct kvm_sregs2 *r) {
    struct kvm_sregs old;
    if (tr_must_be_available(v->engine))
        r->tr.type &= 13;
    if (v->engine->sregs2) {
        r->flags =
            has_pdptes(r->cr0, r->cr4, r->efer) ? KVM_SREGS2_FLAGS_PDPTRS_VALID : 0;
        return ioctl(v->fd, KVM_SET_SREGS2, r);
    }
    memset(&old, 0, sizeof(old)); /* no interrupt: set_events has it */
    memcpy(&old, r, offsetof(struct kvm_sregs2, flags));
    return ioctl(v->fd, KVM_SET_SREGS, &old);
}

static int set_vector(struct kvm_vcpu *v, const struct pn_cpu_state *s, struct parts *k) {
    struct kvm_xsave xsave = {0};
    uint8_t *area = (uint8_t *)&xsave;
    uint64_t present;
    uint32_t mxcsr;
    k->xcrs.nr_xcrs = 1;
    k->xcrs.xcrs[0].value |= XSTATE_X87;
    if (ioctl(v->fd, KVM_SET_XCRS, &k->xcrs) < 0)
        return -1;
    memcpy(area, s->xsave, XSAVE_EXTENDED);
    copy_parts(v->engine, (uint8_t *)s->xsave, area, true);
    memcpy(&present, area + XSAVE_HEADER, sizeof(present));
    memcpy(&mxcsr, area + FX_MXCSR, sizeof(mxcsr));
    present &= v->engine->xcr0 | XSTATE_X87 | XSTATE_SSE; /* KVM refuses any other */
    if (!(present & XSTATE_SSE) && mxcsr != MXCSR_INIT) {
        memset(area + FX_XMM, 0, FX_XMM_SIZE); /* KVM takes MXCSR with SSE only */
        present |= XSTATE_SSE;
    }
    unsigned offset = pkru_offset(v->engine);
    if (offset && k->pkru) {
        present |= XSTATE_PKRU;
        memcpy(area + offset, &k->pkru, sizeof(k->pkru));
    }
    memcpy(area + XSAVE_HEADER, &present, sizeof(present));
    return ioctl(v->fd, KVM_SET_XSAVE, &xsave);
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

/* At a value that KVM refuses it stops: that one is kept, and it goes on after it. The TSC goes first: the TSC
 * deadline is compared with it. */
static void set_msrs(struct kvm_vcpu *v, const struct pn_cpu_state *s) {
    struct msr_buffer m = {.head.nmsrs = 0};
    uint8_t id[PN_MSRS], *at = id;
    uint64_t which = s->msr_known & msrs_known(v) & ALL_MSRS;
    if (s->tsc)
        set_tsc(v, s->tsc);
    for (uint8_t i = 0; i < PN_MSRS; i++) {
        if (!(which >> i & 1))
            continue;
        id[m.head.nmsrs] = i;
        m.entry[m.head.nmsrs++] =
            (struct kvm_msr_entry){.index = msr_index[i], .data = s->msr[i]};
    }
    while (m.head.nmsrs) {
        int done = ioctl(v->fd, KVM_SET_MSRS, &m);
        if (done < 0 || (unsigned)done >= m.head.nmsrs)
            return;
        v->kept.msr_refused |= 1ull << at[done];
        at += done + 1;
        m.head.nmsrs -= (unsigned)done + 1;
        memmove(m.entry, m.entry + done + 1, m.head.nmsrs * sizeof(m.entry[0]));
    }
}

/* KVM leaves IA32_MISC_ENABLE's fast strings off, as no processor does after reset. On
 * Intel's, Linux then does without ERMS but keeps FSRM, and memmove (6.1,
 * arch/x86/lib/memmove_64.S) does not end. A KVM that refuses has no such MSR. */
void kvm_reset_msrs(struct kvm_vcpu *v) {
    static const uint64_t reset[PN_MSRS] = {
#define PN_MSR(name, index, soft, present, take, value) [PN_MSR_##name] = value,
#include "penumbra/cpu_state.inc"
    };
    struct msr_buffer m = {
        .head.nmsrs = 1,
        .entry = {{.index = MSR_MISC_ENABLE, .data = reset[PN_MSR_misc_enable]}}};
    ioctl(v->fd, KVM_SET_MSRS, &m);
}

static void put_exception(struct kvm_vcpu_events *ev, uint8_t vector, bool payload,
                          uint64_t value) {
    ev->exception.nr = vector;
    ev->exception.injected = !payload;
    ev->exception.pending = payload;
    ev->exception_has_payload = payload;
    ev->exception_payload = payload ? value : 0;
}

/* A KVM that takes no payload has CR2 and DR6 as they will be. */
static int apply_payload(struct kvm_vcpu *v, uint8_t vector, uint64_t value,
                         struct parts *k) {
    if (vector == VEC_PF) {
        k->sregs.cr2 = value;
        return set_sregs(v, &k->sregs);
    }
    k->debug.dr6 = (k->debug.dr6 & ~15ull) | value;
    return ioctl(v->fd, KVM_SET_DEBUGREGS, &k->debug);
}

/* KVM has room for one exception: a trap that is owed is lost to one that is under way. */
static int set_exception(struct kvm_vcpu *v, const struct pn_cpu_state *s,
                         struct parts *k, struct kvm_vcpu_events *ev) {
    bool owed = s->exception < 0 && s->db_pending;
    bool payload = owed || (s->exception >= 0 && s->exception_has_payload);
    uint8_t vector = owed ? VEC_DB : (uint8_t)s->exception;
    uint64_t value = owed ? s->db_pending : s->exception_payload;
    ev->exception.injected = ev->exception.pending = 0;
    ev->exception_has_payload = 0;
    if (!owed && s->exception < 0)
        return 0;
    put_exception(ev, vector, payload && v->engine->payload, value);
    ev->exception.has_error_code = !owed && s->exception_has_error;
    ev->exception.error_code = owed ? 0 : s->exception_error;
    return payload && !v->engine->payload ? apply_payload(v, vector, value, k) : 0;
}

static int set_events(struct kvm_vcpu *v, const struct pn_cpu_state *s, struct parts *k) {
    static const uint8_t shadow[] = {[PN_SHADOW_STI] = KVM_X86_SHADOW_INT_STI,
                                     [PN_SHADOW_MOV_SS] = KVM_X86_SHADOW_INT_MOV_SS};
    struct kvm_vcpu_events ev;
    if (ioctl(v->fd, KVM_GET_VCPU_EVENTS, &ev) < 0 || set_exception(v, s, k, &ev) < 0)
        return -1;
    ev.interrupt.injected = s->interrupt >= 0;
    ev.interrupt.nr = s->interrupt >= 0 ? (uint8_t)s->interrupt : 0;
    ev.interrupt.soft = 0;
    ev.interrupt.shadow = shadow[s->intr_shadow];
    ev.nmi.injected = 0;
    ev.nmi.pending = s->nmi_pending;
    ev.nmi.masked = s->nmi_blocked;
    ev.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
               (v->engine->payload ? KVM_VCPUEVENT_VALID_PAYLOAD : 0);
    return ioctl(v->fd, KVM_SET_VCPU_EVENTS, &ev);
}

static void set_activity(struct kvm_vcpu *v, const struct pn_cpu_state *s) {
    static const uint32_t state[] = {[PN_RUNS] = KVM_MP_STATE_RUNNABLE,
                                     [PN_HALTED] = KVM_MP_STATE_HALTED,
                                     [PN_WAITS_SIPI] = KVM_MP_STATE_UNINITIALIZED};
    struct kvm_mp_state mp = {.mp_state = state[s->activity]};
    ioctl(v->fd, KVM_SET_MP_STATE, &mp); /* refused without an in-kernel irqchip */
}

static void keep(struct kvm_vcpu *v, const struct pn_cpu_state *s) {
    v->kept = (struct kvm_kept){.rng = s->rng,
                                .msr_known = s->msr_known & ~msrs_known(v),
                                .pkru = s->pkru,
                                .ssp = s->ssp,
                                .holds = true,
                                .intr_shadow = s->intr_shadow,
                                .db_pending = s->exception >= 0 ? s->db_pending : 0,
                                .fault_streak = s->fault_streak,
                                .vmcb = s->vmcb,
                                .vmxon = s->vmxon,
                                .vmcs = s->vmcs,
                                .vmx_timer_at = s->vmx_timer_at,
                                .v_int_ctl = s->v_int_ctl,
                                .pauses = s->pauses};
    memcpy(v->kept.msr, s->msr, sizeof(s->msr));
}

int kvm_set_state(struct pn_engine *e, unsigned cpu, const struct pn_cpu_state *s) {
    struct kvm_vcpu *v = &e->vcpu[cpu];
    struct parts k;
    if (s->activity > PN_WAITS_SIPI || s->intr_shadow > PN_SHADOW_MOV_SS ||
        s->nested_size > PN_NESTED_SIZE ||
        (!e->nested && (s->in_guest || !s->gif || s->nested_size)))
        return -EINVAL;
    if (s->in_vmx) /* its VMCSs have the software CPU's layout */
        return -ENOTSUP;
    memset(&k, 0, sizeof(k));
    k.sregs.apic_base = s->msr[PN_MSR_apic_base];
    if (!(s->msr_known & MSR_BIT(apic_base)) && get_sregs(v, &k.sregs) < 0)
        return -errno;
#define PN_GPR(nr, name, gdb) k.regs.name = s->gpr[nr];
#define PN_SEG(id, name, gdb, kvm, sel_, attr_, base_)                                   \
    to_segment(&k.kvm, &s->seg[PN_##id]);
#define PN_REG(name, type, digits, gdb, soft, kvm, reset, init) k.kvm = s->name;
#define PN_REG_BY(name, type, digits, gdb, kvm)                 k.kvm = s->name;
#include "penumbra/cpu_state.inc"
    keep(v, s);
    if (kvm_leave_nested(v) < 0 || set_sregs(v, &k.sregs) < 0 ||
        kvm_set_nested(v, s) < 0 || ioctl(v->fd, KVM_SET_REGS, &k.regs) < 0 ||
        ioctl(v->fd, KVM_SET_DEBUGREGS, &k.debug) < 0 || set_vector(v, s, &k) < 0 ||
        (s->has_lapic && kvm_set_lapic(v, s->lapic) < 0))
        return -errno;
    set_msrs(v, s);
    one_reg(v, KVM_SET_ONE_REG, &k.ssp);
    if (set_events(v, s, &k) < 0)
        return -errno;
    set_activity(v, s);
    return 0;
}
