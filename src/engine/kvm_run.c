/* SPDX-License-Identifier: MIT */
/*
 * Running a vCPU on KVM: the loop around KVM_RUN.
 *
 * Invariants
 * 1. A kick is never lost: kick() sets `stop`, then immediate_exit, then signals; run()
 *    clears immediate_exit before it takes `stop`. At worst one KVM_RUN returns early for
 *    nothing.
 * 2. run() comes out for a kick only where KVM_RUN was interrupted: whatever an exit left
 *    half done (the data of an IN, an MMIO read) is complete then, and so is the state.
 * 3. A guest that KVM will not let out is let out by the machine's watchdog, which kicks.
 * Locking: run() of one vCPU is inside one thread; bus calls take the machine's lock
 * themselves. kick() is safe from any thread and from a signal handler.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/kvm_vm.h"

#ifndef KVM_EXIT_MEMORY_FAULT /* Linux 6.8 */
#define KVM_EXIT_MEMORY_FAULT 39
#endif

void kvm_fail(struct kvm_vcpu *v, const char *fmt, ...) {
    int none = 0;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(v->error, sizeof(v->error), fmt, ap);
    va_end(ap);
    atomic_compare_exchange_strong(&v->engine->failed, &none, (int)v->index + 1);
}

void kvm_kick(struct pn_engine *e, unsigned cpu) {
    struct kvm_vcpu *v = &e->vcpu[cpu];
    int saved = errno;
    v->stop = 1;
    __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (v->inside)
        syscall(SYS_tgkill, getpid(), v->tid, KICK_SIGNAL);
    errno = saved;
}

static void run_pio(struct kvm_vcpu *v) {
    struct kvm_run *r = v->run;
    struct pn_bus *bus = &v->engine->bus;
    uint8_t *data = (uint8_t *)r + r->io.data_offset;
    pn_count(&v->stats, io_exits);
    for (uint32_t i = 0; i < r->io.count; i++, data += r->io.size) {
        uint64_t value = 0;
        if (r->io.direction == KVM_EXIT_IO_OUT) {
            memcpy(&value, data, r->io.size);
            bus->pio_write(bus->opaque, v->index, r->io.port, r->io.size, value);
        } else {
            value = bus->pio_read(bus->opaque, v->index, r->io.port, r->io.size);
            memcpy(data, &value, r->io.size);
        }
    }
}

static void run_mmio(struct kvm_vcpu *v) {
    struct kvm_run *r = v->run;
    struct pn_bus *bus = &v->engine->bus;
    uint64_t value = 0;
    pn_count(&v->stats, mmio_exits);
    if (r->mmio.is_write) {
        memcpy(&value, r->mmio.data, r->mmio.len);
        bus->mmio_write(bus->opaque, v->index, r->mmio.phys_addr, r->mmio.len, value);
    } else {
        value = bus->mmio_read(bus->opaque, v->index, r->mmio.phys_addr, r->mmio.len);
        memcpy(r->mmio.data, &value, r->mmio.len);
    }
    kvm_trace_mmio(v->engine, v->index, r, value);
}

/* The bytes that KVM names with an emulation failure (api.rst, "emulation_failure"). */
static size_t failed_bytes(const struct kvm_run *r, uint8_t bytes[15]) {
    const struct {
        uint32_t suberror, ndata;
        uint64_t flags;
        uint8_t size, bytes[15];
    } *f = (const void *)&r->internal;
    if (f->ndata < 3 || !(f->flags & 1) || f->size > 15)
        return 0;
    memcpy(bytes, f->bytes, f->size);
    return f->size;
}

/* QEMU's SVM leaves the type of the last event where KVM from 7.2 on takes it for one whose
 * delivery was cut short; the first MMIO after an exception then ends in this error, and the
 * next KVM_RUN gives the access. A delivery that does fail fails again. */
#define REDELIVERED_MAX 3u

static bool may_run_again(struct kvm_vcpu *v) {
    if (v->run->internal.suberror != KVM_INTERNAL_ERROR_DELIVERY_EV ||
        v->redelivered_now == REDELIVERED_MAX)
        return false;
    v->redelivered_now++;
    v->redelivered++;
    return true;
}

/* Return: 1 to go on, 0 when *reason ends the run. */
static int internal_error(struct kvm_vcpu *v, enum pn_exit_reason *reason) {
    const struct kvm_run *r = v->run;
    char text[160];
    uint8_t bytes[15];
    if (may_run_again(v))
        return 1;
    *reason = PN_EXIT_ERROR;
    if (r->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
        size_t size = failed_bytes(r, bytes);
        int rc = kvm_fallback_step(v->engine, v);
        if (rc == 0)
            return 1;
        if (rc > 0) {
            kvm_fail(v, "vCPU %u: triple fault", v->index);
            *reason = PN_EXIT_SHUTDOWN;
            return 0;
        }
        char why[sizeof(v->error)];
        memcpy(why, v->error, sizeof(why));
        kvm_insn_text(v, size ? bytes : NULL, size, text, sizeof(text));
        kvm_fail(v, "vCPU %u: KVM cannot emulate %s; %.200s", v->index, text, why);
        return 0;
    }
    kvm_insn_text(v, NULL, 0, text, sizeof(text));
    kvm_fail(v, "vCPU %u: KVM internal error %u at %s", v->index, r->internal.suberror,
             text);
    return 0;
}

/* Return: 1 to go on, 0 when *reason ends the run. */
static int handle_exit(struct kvm_vcpu *v, enum pn_exit_reason *reason) {
    struct kvm_run *r = v->run;
    if (r->exit_reason != KVM_EXIT_INTERNAL_ERROR)
        v->redelivered_now = 0;
    switch (r->exit_reason) {
    case KVM_EXIT_IO:
        run_pio(v);
        return 1;
    case KVM_EXIT_MMIO:
        run_mmio(v);
        return 1;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        return 1;
    case KVM_EXIT_HLT: /* only without KVM's own interrupt controllers */
        pn_count(&v->stats, halt_exits);
        *reason = PN_EXIT_HALT;
        return 0;
    case KVM_EXIT_SHUTDOWN:
        kvm_fail(v, "vCPU %u: triple fault", v->index);
        *reason = PN_EXIT_SHUTDOWN;
        return 0;
    case KVM_EXIT_SYSTEM_EVENT:
        kvm_fail(v, "vCPU %u: KVM system event %u", v->index, r->system_event.type);
        *reason = PN_EXIT_SHUTDOWN;
        return 0;
    case KVM_EXIT_INTERNAL_ERROR:
        return internal_error(v, reason);
    case KVM_EXIT_DEBUG:
        kvm_debug_exit(v);
        *reason = PN_EXIT_DEBUG;
        return 0;
    case KVM_EXIT_DIRTY_RING_FULL: {
        int rc = kvm_dirty_empty_rings(v->engine);
        if (rc == 0)
            return 1;
        kvm_fail(v, "vCPU %u: KVM_RESET_DIRTY_RINGS: %s", v->index, strerror(-rc));
        break;
    }
    case KVM_EXIT_FAIL_ENTRY:
        kvm_fail(v, "vCPU %u: KVM cannot enter the guest, hardware reason 0x%llx",
                 v->index,
                 (unsigned long long)r->fail_entry.hardware_entry_failure_reason);
        break;
    default:
        kvm_fail(v, "vCPU %u: KVM exit %u, which penumbra does not know", v->index,
                 r->exit_reason);
    }
    *reason = PN_EXIT_ERROR;
    return 0;
}

/* KVM_RUN failed: guest memory that the host cannot give, or a failure of KVM's. */
static void run_failed(struct kvm_vcpu *v, int error) {
    const struct kvm_run *r = v->run;
    const struct {
        uint64_t flags, gpa, size;
    } *fault = (const void *)&r->internal; /* the union's memory_fault */
    char text[160];
    kvm_insn_text(v, NULL, 0, text, sizeof(text));
    if (r->exit_reason == KVM_EXIT_MEMORY_FAULT)
        kvm_fail(v,
                 "vCPU %u: the host has no memory for the guest at %llx (%llu bytes), "
                 "used by %s: %s",
                 v->index, (unsigned long long)fault->gpa,
                 (unsigned long long)fault->size, text, strerror(error));
    else if (error == EFAULT)
        kvm_fail(v, "vCPU %u: the host has no memory for what the guest uses in %s: %s",
                 v->index, text, strerror(error));
    else
        kvm_fail(v, "vCPU %u: KVM_RUN: %s, at %s", v->index, strerror(error), text);
}

/* Kicked out while it waited: is it halted with interrupts off, or never started? */
static bool waits_for_good(struct kvm_vcpu *v) {
    struct kvm_mp_state mp;
    struct kvm_vcpu_events ev;
    if (ioctl(v->fd, KVM_GET_MP_STATE, &mp) < 0)
        return false;
    if (mp.mp_state == KVM_MP_STATE_UNINITIALIZED)
        return true;
    return mp.mp_state == KVM_MP_STATE_HALTED && !v->run->if_flag &&
           ioctl(v->fd, KVM_GET_VCPU_EVENTS, &ev) == 0 && !ev.nmi.pending;
}

enum pn_exit_reason kvm_run(struct pn_engine *e, unsigned cpu, uint64_t deadline) {
    (void)deadline; /* the machine's timers run in a thread of their own */
    struct kvm_vcpu *v = &e->vcpu[cpu];
    enum pn_exit_reason reason = PN_EXIT_STOP;
    v->tid = (pid_t)syscall(SYS_gettid);
    v->inside = 1;
    for (;;) {
        v->kept.holds = false;
        int rc = ioctl(v->fd, KVM_RUN, 0), error = errno;
        kvm_posted_drain(e);
        if (rc == 0) {
            if (!handle_exit(v, &reason))
                break;
        } else if (error == EINTR || error == EAGAIN) {
            __atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
            if (atomic_exchange(&v->stop, 0)) {
                reason = waits_for_good(v) ? PN_EXIT_HALT : PN_EXIT_STOP;
                break;
            }
        } else {
            run_failed(v, error);
            reason = PN_EXIT_ERROR;
            break;
        }
    }
    v->inside = 0;
    return reason;
}
