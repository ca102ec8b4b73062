/* SPDX-License-Identifier: MIT */
/* What the host bridge (pci_host.c) and its functions (pci.c) ask of each other. */
#pragma once

#include "dev/pci.h"

/* Bytes [at, at + size) of configuration space, below PCI_CONFIG_SIZE. */
uint32_t pci_config_read(struct pci_function *f, unsigned at, unsigned size);
void pci_config_write(struct pci_function *f, unsigned at, unsigned size, uint32_t value);
/* state.at may be another: tell the device. */
void pci_moved(struct pci_function *f);
/* Does the function hold its INTA? */
bool pci_asks(const struct pci_function *f);

/* Return: 0, and *bar, where its BAR is to be; -EEXIST, -ENOSPC. */
int pci_host_add(struct pci_host *h, struct pci_function *f, unsigned slot,
                 uint64_t *bar);
void pci_host_remove(struct pci_host *h, const struct pci_function *f);
/* Let the gsis follow the functions. */
void pci_host_lines(struct pci_host *h);
/* Map every BAR where its state says, whatever was there before. */
void pci_host_map(struct pci_host *h);
