/* SPDX-License-Identifier: MIT */
/*
 * KVM's own counters, under KVM's own names (Documentation/virt/kvm/api.rst,
 * KVM_GET_STATS_FD), as differences over the run: what creating the machine moved is
 * taken off. Gauges and peaks are given as they stand.
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
#define VALUES_MAX     256u

/* All values of one stats file. */
struct stats_file {
    struct kvm_stats_header head;
    uint8_t *desc; /* head.num_desc descriptors of desc_size() bytes */
    uint64_t *value;
    size_t values;
};

struct kvm_baseline {
    struct stats_file file; /* an array of these: the VM's, then each vCPU's */
};

static size_t desc_size(const struct kvm_stats_header *h) {
    return sizeof(struct kvm_stats_desc) + h->name_size;
}

static const struct kvm_stats_desc *desc_of(const struct stats_file *f, unsigned i) {
    return (const void *)(f->desc + i * desc_size(&f->head));
}

static void file_free(struct stats_file *f) {
    free(f->desc);
    free(f->value);
    memset(f, 0, sizeof(*f));
}

static int read_all(int fd, void *buf, size_t size, off_t at) {
    return pread(fd, buf, size, at) == (ssize_t)size ? 0 : -EIO;
}

static int file_fill(int fd, struct stats_file *f) {
    struct kvm_stats_header *h = &f->head;
    if (read_all(fd, h, sizeof(*h), 0) || h->num_desc > STATS_MAX ||
        h->name_size > NAME_MAX_BYTES || !h->name_size)
        return -EIO;
    f->desc = calloc(h->num_desc ? h->num_desc : 1, desc_size(h));
    if (!f->desc || read_all(fd, f->desc, h->num_desc * desc_size(h), h->desc_offset))
        return -EIO;
    size_t bytes = 0;
    for (unsigned i = 0; i < h->num_desc; i++) {
        struct kvm_stats_desc *d = (void *)(f->desc + i * desc_size(h));
        d->name[h->name_size - 1] = 0;
        if (d->size > VALUES_MAX || d->offset % 8 || d->offset > STATS_MAX * 64)
            return -EIO;
        if (d->offset + d->size * 8u > bytes)
            bytes = d->offset + d->size * 8u;
    }
    f->values = bytes / 8;
    f->value = calloc(f->values ? f->values : 1, 8);
    return f->value ? read_all(fd, f->value, bytes, h->data_offset) : -ENOMEM;
}

/* A KVM without binary stats leaves the file empty, and the report without them. */
static void file_read(int owner, struct stats_file *f) {
    memset(f, 0, sizeof(*f));
    int fd = ioctl(owner, KVM_GET_STATS_FD, NULL);
    if (fd < 0)
        return;
    if (file_fill(fd, f))
        file_free(f);
    close(fd);
}

static int owner_of(const struct pn_engine *e, unsigned i) {
    return i ? e->vcpu[i - 1].fd : e->vm;
}

void kvm_stats_begin(struct pn_engine *e) {
    e->baseline = calloc(e->cpus + 1, sizeof(*e->baseline));
    for (unsigned i = 0; e->baseline && i <= e->cpus; i++)
        file_read(owner_of(e, i), &e->baseline[i].file);
}

void kvm_stats_free(struct pn_engine *e) {
    for (unsigned i = 0; e->baseline && i <= e->cpus; i++)
        file_free(&e->baseline[i].file);
    free(e->baseline);
    e->baseline = NULL;
}

/* Only what accumulates has a difference. */
static bool accumulates(const struct kvm_stats_desc *d) {
    uint32_t type = d->flags & KVM_STATS_TYPE_MASK;
    return type != KVM_STATS_TYPE_INSTANT && type != KVM_STATS_TYPE_PEAK;
}

static void tell(const struct stats_file *now, const struct stats_file *before,
                 const char *group, pn_foreign_stat_fn fn, void *opaque) {
    for (unsigned i = 0; i < now->head.num_desc; i++) {
        const struct kvm_stats_desc *d = desc_of(now, i);
        uint64_t value[VALUES_MAX];
        for (unsigned j = 0; j < d->size; j++) {
            size_t at = d->offset / 8 + j;
            value[j] = now->value[at];
            if (accumulates(d) && before && at < before->values)
                value[j] -= before->value[at];
        }
        fn(opaque, group, d->name, value, d->size);
    }
}

void kvm_foreign_stats(struct pn_engine *e, pn_foreign_stat_fn fn, void *opaque) {
    for (unsigned i = 0; i <= e->cpus; i++) {
        struct stats_file now;
        char group[16] = "vm";
        if (i)
            snprintf(group, sizeof(group), "vcpu%u", i - 1);
        file_read(owner_of(e, i), &now);
        tell(&now, e->baseline ? &e->baseline[i].file : NULL, group, fn, opaque);
        file_free(&now);
        if (i) {
            fn(opaque, group, "penumbra_emulated", &e->vcpu[i - 1].emulated, 1);
            fn(opaque, group, "penumbra_redelivered", &e->vcpu[i - 1].redelivered, 1);
        } else {
            fn(opaque, group, "penumbra_posted_writes", &e->posted_writes, 1);
        }
    }
}

/* Of our own counters, those that this engine moves; KVM counts the rest for itself. */
bool kvm_counts(enum pn_stat id) {
    switch (id) {
    case PN_STAT_io_exits:
    case PN_STAT_mmio_exits:
    case PN_STAT_bells:
    case PN_STAT_irqfds:
    case PN_STAT_slot_changes:
    case PN_STAT_dirty_harvests:
    case PN_STAT_dirty_pages:
        return true;
    default:
        return false;
    }
}
