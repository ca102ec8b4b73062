/* SPDX-License-Identifier: MIT */
/*
 * KVM's own counters, under KVM's own names (Documentation/virt/kvm/api.rst, 4.133
 * KVM_GET_STATS_FD). A VM and its vCPUs are new when the run begins, so what the counters
 * hold is the run's difference; histograms and gauges that KVM gives as arrays are
 * summed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/kvm_vm.h"

/* Bounds against a file that is not what it says. */
#define STATS_MAX      1024u
#define NAME_MAX_BYTES 256u

static int read_all(int fd, void *buf, size_t size, off_t at) {
    return pread(fd, buf, size, at) == (ssize_t)size ? 0 : -1;
}

static uint64_t sum_values(int fd, const struct kvm_stats_header *h,
                           const struct kvm_stats_desc *d) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < d->size; i++) {
        uint64_t value;
        if (read_all(fd, &value, sizeof(value),
                     (off_t)h->data_offset + d->offset + 8 * (off_t)i))
            break;
        sum += value;
    }
    return sum;
}

static void each_stat(int fd, const char *group, pn_foreign_stat_fn fn, void *opaque) {
    struct kvm_stats_header h;
    if (read_all(fd, &h, sizeof(h), 0) || h.num_desc > STATS_MAX ||
        h.name_size > NAME_MAX_BYTES)
        return;
    size_t each = sizeof(struct kvm_stats_desc) + h.name_size;
    struct kvm_stats_desc *d = malloc(each + 1);
    if (!d)
        return;
    for (unsigned i = 0; i < h.num_desc; i++) {
        if (read_all(fd, d, each, (off_t)h.desc_offset + (off_t)(i * each)))
            break;
        d->name[h.name_size] = 0;
        fn(opaque, group, d->name, sum_values(fd, &h, d));
    }
    free(d);
}

static void each_of_fd(int owner, const char *group, pn_foreign_stat_fn fn,
                       void *opaque) {
    int fd = ioctl(owner, KVM_GET_STATS_FD, NULL);
    if (fd < 0)
        return; /* a KVM without binary stats: the report has none */
    each_stat(fd, group, fn, opaque);
    close(fd);
}

void kvm_foreign_stats(struct pn_engine *e, pn_foreign_stat_fn fn, void *opaque) {
    each_of_fd(e->vm, "vm", fn, opaque);
    for (unsigned i = 0; i < e->cpus; i++) {
        char group[16];
        snprintf(group, sizeof(group), "vcpu%u", i);
        each_of_fd(e->vcpu[i].fd, group, fn, opaque);
        fn(opaque, group, "penumbra_emulated", e->vcpu[i].emulated);
    }
}
