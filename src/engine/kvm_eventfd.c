/* SPDX-License-Identifier: MIT */
/*
 * Event descriptors between KVM and devices: writes that only say that there is work (ioeventfd),
 * and message-signalled interrupts (irqfd, over KVM's table of routes).
 *
 * A message is its address and data, and nothing else: so a route belongs to a message, not to a
 * device's vector, and is never out of date, whatever a driver does to its vectors. One that is sent
 * again and again gets one; changing the table makes KVM wait for its readers.
 *
 * Invariants
 * 1. The lines of the gsis below MESSAGE_GSI lead where the ACPI tables say (src/machine/acpi.c):
 *    gsi 0 to the IO-APIC's pin 2, each other to the pin of its number.
 * 2. Before a vCPU's state is read, nothing is on its way that was sent by a descriptor:
 *    KVM_IRQFD's DEASSIGN waits for it.
 * Locking: msg is the machine's lock's, as are all calls.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/kvm_vm.h"

#define PIC_LINES   16u
#define IOAPIC_PINS 24u
#define MESSAGE_GSI IOAPIC_PINS
#define OFTEN       16u /* sent so often, a message gets a route */

static void route_line(struct kvm_irq_routing *r, unsigned gsi, unsigned chip,
                       unsigned pin) {
    r->entries[r->nr++] =
        (struct kvm_irq_routing_entry){.gsi = gsi,
                                       .type = KVM_IRQ_ROUTING_IRQCHIP,
                                       .u.irqchip = {.irqchip = chip, .pin = pin}};
}

/* The whole table, as KVM takes it. */
static int set_routes(struct pn_engine *e) {
    size_t most = PIC_LINES + IOAPIC_PINS + KVM_MESSAGES;
    struct kvm_irq_routing *r = calloc(1, sizeof(*r) + most * sizeof(r->entries[0]));
    if (!r)
        return -ENOMEM;
    for (unsigned gsi = 0; gsi < IOAPIC_PINS; gsi++) {
        if (gsi < PIC_LINES)
            route_line(r, gsi, gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
                       gsi % 8);
        if (gsi != 2)
            route_line(r, gsi, KVM_IRQCHIP_IOAPIC, gsi ? gsi : 2);
    }
    for (unsigned i = 0; i < KVM_MESSAGES; i++) {
        const struct kvm_message *m = &e->message[i];
        if (m->fd < 0)
            continue;
        struct kvm_irq_routing_entry *to = &r->entries[r->nr++];
        to->gsi = MESSAGE_GSI + i;
        to->type = KVM_IRQ_ROUTING_MSI;
        to->u.msi.address_lo = (uint32_t)m->address;
        to->u.msi.address_hi = (uint32_t)(m->address >> 32);
        to->u.msi.data = m->data;
    }
    int rc = ioctl(e->vm, KVM_SET_GSI_ROUTING, r) < 0 ? -errno : 0;
    free(r);
    return rc;
}

static int irqfd(struct pn_engine *e, unsigned i, unsigned flags) {
    struct kvm_irqfd q = {
        .fd = (uint32_t)e->message[i].fd, .gsi = MESSAGE_GSI + i, .flags = flags};
    return ioctl(e->vm, KVM_IRQFD, &q) < 0 ? -errno : 0;
}

static bool has(const struct pn_engine *e, long cap) {
    return ioctl(e->vm, KVM_CHECK_EXTENSION, cap) > 0;
}

int kvm_eventfd_begin(struct pn_engine *e, bool wanted) {
    for (unsigned i = 0; i < KVM_MESSAGES; i++)
        e->message[i].fd = -1;
    e->bells = wanted && has(e, KVM_CAP_IOEVENTFD_ANY_LENGTH);
    bool routes = has(e, KVM_CAP_IRQ_ROUTING);
    e->messages = wanted && routes && has(e, KVM_CAP_IRQFD);
    return routes && set_routes(e) ? kvm_error(e, "KVM_SET_GSI_ROUTING") : 0;
}

int kvm_bell(struct pn_engine *e, int fd, pn_gpa gpa, bool on) {
    struct kvm_ioeventfd io = {
        .addr = gpa, .fd = fd, .flags = on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN};
    if (!e->bells)
        return -ENOTSUP;
    return ioctl(e->vm, KVM_IOEVENTFD, &io) < 0 ? -errno : 0;
}

/* ---- Messages ---- */

static void forget(struct pn_engine *e, unsigned i) {
    struct kvm_message *m = &e->message[i];
    if (m->fd >= 0) {
        (void)irqfd(e, i, KVM_IRQFD_FLAG_DEASSIGN);
        close(m->fd);
    }
    *m = (struct kvm_message){.fd = -1};
}

void kvm_messages_end(struct pn_engine *e) {
    for (unsigned i = 0; i < KVM_MESSAGES; i++)
        forget(e, i);
}

/* Where KVM refuses, the message stays one that is sent by KVM_SIGNAL_MSI. */
static void give_route(struct pn_engine *e, unsigned i) {
    struct kvm_message *m = &e->message[i];
    m->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (m->fd < 0)
        return;
    if (set_routes(e) == 0 && irqfd(e, i, 0) == 0)
        return;
    close(m->fd);
    m->fd = -1;
    e->messages = false;
}

static int signal_msi(struct pn_engine *e, uint64_t address, uint32_t data) {
    struct kvm_msi msi = {.address_lo = (uint32_t)address,
                          .address_hi = (uint32_t)(address >> 32),
                          .data = data};
    int rc = ioctl(e->vm, KVM_SIGNAL_MSI, &msi);
    return rc < 0 ? -errno : rc;
}

/* Its place, where another may have been that is sent less often. */
static unsigned place_of(struct pn_engine *e, uint64_t address, uint32_t data) {
    unsigned i = (data ^ (unsigned)(address >> 12)) % KVM_MESSAGES;
    struct kvm_message *m = &e->message[i];
    if (m->address == address && m->data == data)
        return i;
    if (m->sent) { /* a place is given up slowly, and a route more slowly */
        m->sent--;
        return KVM_MESSAGES;
    }
    forget(e, i);
    *m = (struct kvm_message){.fd = -1, .address = address, .data = data};
    return i;
}

int kvm_msi(struct pn_engine *e, uint64_t address, uint32_t data) {
    static const uint64_t one = 1;
    unsigned i = e->messages ? place_of(e, address, data) : KVM_MESSAGES;
    if (i == KVM_MESSAGES)
        return signal_msi(e, address, data);
    struct kvm_message *m = &e->message[i];
    m->sent += m->sent < OFTEN * OFTEN;
    if (m->fd < 0 && m->sent >= OFTEN)
        give_route(e, i);
    if (m->fd < 0)
        return signal_msi(e, address, data);
    pn_count(&e->vcpu[0].stats, irqfds);
    return write(m->fd, &one, sizeof(one)) == (ssize_t)sizeof(one) ? 1 : -errno;
}
