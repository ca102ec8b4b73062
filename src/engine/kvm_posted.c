/* SPDX-License-Identifier: MIT */
/*
 * Posted port writes (KVM's coalesced PIO): writes that no device answers and nobody sees
 * the effect of before the next exit stay in a ring of the VM's, and cost no exit. The
 * machine says which ports these are (pn_engine_config.posted).
 *
 * Invariant: every write in the ring reaches its device before the exit that followed it
 * is handled, in the guest's order.
 * Locking: posted_lock, around the bus's own.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/kvm_vm.h"

/* As KVM counts them: what fits in a page. */
#define RING_MAX(page)                                                                   \
    (((page) - sizeof(struct kvm_coalesced_mmio_ring)) /                                 \
     sizeof(struct kvm_coalesced_mmio))

int kvm_posted_begin(struct pn_engine *e, const struct pn_engine_config *cfg) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int at = ioctl(e->vm, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO);
    if (at <= 0 || ioctl(e->vm, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_PIO) <= 0 ||
        ((size_t)at + 1) * page > e->run_size)
        return 0; /* then each of them exits */
    for (unsigned i = 0; i < cfg->posted_count; i++) {
        struct kvm_coalesced_mmio_zone z = {
            .addr = cfg->posted[i].port, .size = cfg->posted[i].count, .pio = 1};
        if (ioctl(e->vm, KVM_REGISTER_COALESCED_MMIO, &z) < 0)
            return kvm_error(e, "KVM_REGISTER_COALESCED_MMIO");
    }
    if (cfg->posted_count) {
        e->posted = (void *)((uint8_t *)e->vcpu[0].run + (size_t)at * page);
        e->posted_size = (uint32_t)RING_MAX(page);
    }
    return 0;
}

static void write_one(struct pn_engine *e, const struct kvm_coalesced_mmio *w) {
    uint64_t value = 0;
    if (w->len > sizeof(w->data) || !w->pio)
        return;
    memcpy(&value, w->data, w->len);
    e->bus.pio_write(e->bus.opaque, 0, (uint16_t)w->phys_addr, w->len, value);
    e->posted_writes++;
}

void kvm_posted_drain(struct pn_engine *e) {
    struct kvm_coalesced_mmio_ring *r = e->posted;
    if (!r || __atomic_load_n(&r->first, __ATOMIC_RELAXED) ==
                  __atomic_load_n(&r->last, __ATOMIC_ACQUIRE))
        return;
    pthread_mutex_lock(&e->posted_lock);
    uint32_t first = r->first, last;
    while (first < e->posted_size &&
           (last = __atomic_load_n(&r->last, __ATOMIC_ACQUIRE)) != first) {
        write_one(e, &r->coalesced_mmio[first]);
        first = (first + 1) % e->posted_size;
        __atomic_store_n(&r->first, first, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&e->posted_lock);
}
