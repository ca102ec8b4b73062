/* SPDX-License-Identifier: MIT */
/*
 * A local APIC to and from KVM: its page, but for what KVM keeps beside it about the timer
 * (Linux, arch/x86/kvm/lapic.c).
 *
 * A timer that expires is an interrupt only when KVM_RUN has gone round its loop once more.
 * Until then the page says nothing of it. In TSC-deadline mode that is no loss: the MSR
 * holds the deadline as long. In the other modes KVM_RUN has to go round.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/kvm_vm.h"

#define TIMER_MODE     0x60000u /* in its LVT entry */
#define TIMER_DEADLINE 0x40000u
#define SETTLE_NS      1000000

enum { REG_IRR = 0x20, REG_LVT_TIMER = 0x32, REG_INITIAL = 0x38, REG_CURRENT = 0x39 };

static uint32_t get(const struct kvm_lapic_state *l, unsigned reg) {
    uint32_t value;
    memcpy(&value, l->regs + reg * 16, sizeof(value));
    return value;
}

static bool timer_interrupts(const struct kvm_lapic_state *l) {
    unsigned vector = get(l, REG_LVT_TIMER) & 0xff;
    return get(l, REG_IRR + vector / 32) >> vector % 32 & 1;
}

/* KVM_RUN with a signal that waits for it: it comes out before it enters the guest. */
static void run_nothing(struct kvm_vcpu *v) {
    struct {
        struct kvm_signal_mask head;
        uint8_t blocked[8]; /* the kernel's sigset_t: none */
    } during = {.head.len = sizeof(during.blocked)};
    const struct timespec now = {0, 0};
    sigset_t kick, before;
    sigemptyset(&kick);
    sigaddset(&kick, KICK_SIGNAL);
    pthread_sigmask(SIG_BLOCK, &kick, &before);
    syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), KICK_SIGNAL);
    if (ioctl(v->fd, KVM_SET_SIGNAL_MASK, &during) == 0) {
        ioctl(v->fd, KVM_RUN, 0);
        ioctl(v->fd, KVM_SET_SIGNAL_MASK, NULL);
    }
    sigtimedwait(&kick, NULL, &now);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* One turn of KVM_RUN's loop. The vCPU is halted meanwhile, so that no event of its own
 * begins to be delivered either; one that an event wakes from its own HLT stays awake. */
static void turn(struct kvm_vcpu *v) {
    struct kvm_mp_state was, halted = {.mp_state = KVM_MP_STATE_HALTED};
    if (ioctl(v->fd, KVM_GET_MP_STATE, &was) < 0 ||
        (was.mp_state != KVM_MP_STATE_RUNNABLE && was.mp_state != KVM_MP_STATE_HALTED) ||
        ioctl(v->fd, KVM_SET_MP_STATE, &halted) < 0)
        return;
    uint8_t kicked = __atomic_exchange_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    run_nothing(v);
    if (kicked)
        __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (was.mp_state == KVM_MP_STATE_RUNNABLE)
        ioctl(v->fd, KVM_SET_MP_STATE, &was);
}

/* A count of 0 is as old as KVM's clock; its timer's handler may run a moment later. */
int kvm_get_lapic(struct kvm_vcpu *v, struct kvm_lapic_state *l) {
    static const struct timespec moment = {.tv_nsec = SETTLE_NS};
    struct kvm_lapic_state after;
    if (ioctl(v->fd, KVM_GET_LAPIC, l) < 0)
        return -errno;
    if (!get(l, REG_INITIAL) || (get(l, REG_LVT_TIMER) & TIMER_MODE) == TIMER_DEADLINE)
        return 0;
    if (!get(l, REG_CURRENT))
        nanosleep(&moment, NULL);
    turn(v);
    if (ioctl(v->fd, KVM_GET_LAPIC, &after) < 0)
        return -errno;
    if (!get(l, REG_CURRENT) || timer_interrupts(&after))
        *l = after;
    return 0;
}

/* KVM starts the timer from its current count, and a one-shot timer that stands at 0
 * would expire again. It stays there without its initial count, which the guest then
 * reads as 0: less harm than an interrupt too many. */
int kvm_set_lapic(struct kvm_vcpu *v, const uint8_t *page) {
    struct kvm_lapic_state l;
    memcpy(l.regs, page, sizeof(l.regs));
    if (!(get(&l, REG_LVT_TIMER) & TIMER_MODE) && !get(&l, REG_CURRENT))
        memset(l.regs + REG_INITIAL * 16, 0, sizeof(uint32_t));
    return ioctl(v->fd, KVM_SET_LAPIC, &l) < 0 ? -errno : 0;
}
