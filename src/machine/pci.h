/* SPDX-License-Identifier: MIT */
/* The machine's PCI devices (wiring_pci.c). */
#pragma once

#include "machine/state.h"

/* What machine_config.devices says. Return: 0, or -errno with a line in e. destroy: after the
 * devices. */
int wiring_pci_create(struct machine *m, struct err *e);
void wiring_pci_destroy(struct machine *m);
/* Slots in use, from 0 on; 0: there is no PCI. */
unsigned machine_pci_slots(const struct machine *m);
/* Is there a network or a vsock, whose connections no file can have? */
bool machine_has_connections(const struct machine *m);
/* Ask the guest's balloon which pages are free (enum virtio_balloon_hints); what it says comes to
 * machine_migrate_free. Return: whether there is a balloon. */
bool machine_ask_hints(struct machine *m, unsigned what);
/* Is there memory besides RAM? Its memslots again, in another engine: 0 or -errno. */
bool machine_has_more_memory(const struct machine *m);
int machine_more_memory_again(struct machine *m);
/* That memory's slots. Return: how many, at most MACHINE_DEVICES_MAX + 1. */
unsigned machine_more_slots(const struct machine *m, struct pn_memslot *slot);
/* Is there a folder of the host's? */
bool machine_has_share(const struct machine *m);
/* Is what the guest writes to disk i lost in the end? */
bool machine_disk_is_lost(const struct machine *m, unsigned i);
bool machine_disk_is_written(const struct machine *m, unsigned i);
/* Disk i, flushed, into an empty file. Return: as disk_copy. */
int machine_disk_copy(const struct machine *m, unsigned i, int to);
/* For dev_host. */
void *machine_memory_at(void *machine, pn_gpa gpa, size_t size);
size_t machine_discard_phys(void *machine, pn_gpa gpa, size_t size);
