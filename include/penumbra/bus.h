/* SPDX-License-Identifier: MIT */
/*
 * Who answers what a CPU cannot: the machine's devices and its interrupt controllers. The
 * machine fills it in, an engine passes it on, and a vCPU calls it with its own number.
 *
 * All calls come from the thread that runs the vCPU.
 */
#pragma once

#include "penumbra/types.h"

struct pn_bus {
    uint64_t (*pio_read)(void *opaque, unsigned cpu, uint16_t port, unsigned size);
    void (*pio_write)(void *opaque, unsigned cpu, uint16_t port, unsigned size,
                      uint64_t value);
    uint64_t (*mmio_read)(void *opaque, unsigned cpu, pn_gpa gpa, unsigned size);
    void (*mmio_write)(void *opaque, unsigned cpu, pn_gpa gpa, unsigned size,
                       uint64_t value);
    /* The rest is for CPUs that have no interrupt controller of their own.
     *
     * Highest deliverable external interrupt. ack takes it. Return: the vector or -1. */
    int (*intr_peek)(void *opaque, unsigned cpu);
    int (*intr_ack)(void *opaque, unsigned cpu);
    /* The interrupt in service ends, as by an EOI: a posted interrupt's notification. */
    void (*intr_eoi)(void *opaque, unsigned cpu);
    /* MSRs of the local APIC (0x1b, 0x800..0x8ff, 0x6e0), and where the guest is offered
     * KVM's interface those of KVM (0x11, 0x12, 0x4b564d00..ff). Return: 0, or -1 for
     * #GP. */
    int (*msr_read)(void *opaque, unsigned cpu, uint32_t index, uint64_t *value);
    int (*msr_write)(void *opaque, unsigned cpu, uint32_t index, uint64_t value);
    uint64_t (*cr8_read)(void *opaque, unsigned cpu);
    void (*cr8_write)(void *opaque, unsigned cpu, uint64_t value);
    /* VMCALL or VMMCALL in ring 0: a hypercall in KVM's interface (penumbra/pv.h), which
     * may be NULL where the guest is not offered it. Return: what RAX becomes. */
    int64_t (*hypercall)(void *opaque, unsigned cpu, uint64_t nr, const uint64_t arg[4]);
    /* x87's FERR#, with CR0.NE clear: an exception that is not masked waits (true; the next
     * instruction that would take it says so each time), or waits no longer. NULL: nobody
     * listens, and the exception is #MF whatever CR0.NE is. */
    void (*ferr)(void *opaque, unsigned cpu, bool pending);
    void *opaque;
};
