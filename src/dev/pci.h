/* SPDX-License-Identifier: MIT */
/*
 * PCI: the host bridge with bus 0, and what every function on it has (PCI Local Bus
 * Specification 3.0; PCI Express Base Specification, "Enhanced Configuration Access
 * Mechanism"): configuration space with capabilities, one memory BAR, INTA, MSI, MSI-X and
 * function-level reset.
 *
 * Invariants
 * 1. A guest changes only bits of configuration space that a mask names. A state whose
 *    other bits are not those of power-on is refused.
 * 2. A function makes no access to memory and sends no message while its bus master bit is
 *    clear.
 */
#pragma once

#include "dev/dev.h"

/* Where the bridge puts what; the DSDT and the MCFG say the same (src/machine/acpi.c). */
#define PCI_ECAM_BASE   0xe0000000u
#define PCI_ECAM_SIZE   0x100000u /* bus 0 */
#define PCI_WINDOW_BASE 0xc0000000u
#define PCI_WINDOW_SIZE 0x20000000u
#define PCI_SLOTS       32u
/* INTA of slot n is gsi PCI_GSI + n % PCI_GSIS: the lines are shared, active low outside. */
#define PCI_GSI  16u
#define PCI_GSIS 4u

#define PCI_CONFIG_SIZE 256u
#define PCI_VECTORS_MAX 16u

/* All that a guest can change of a function. */
struct pci_state {
    uint64_t at;      /* where the BAR is mapped, or DEV_NOWHERE */
    uint64_t pending; /* MSI-X: bit n: vector n waits for its mask to go */
    struct pci_vector {
        uint32_t address, address_high, data, control;
    } vector[PCI_VECTORS_MAX];
    uint8_t config[PCI_CONFIG_SIZE];
    uint8_t line; /* the function asks for INTA */
    uint8_t pad[7];
};

struct pci_host;

/* A function, part of a device. The device fills in what stands before `host`, then calls
 * pci_attach and adds capabilities. */
struct pci_function {
    struct device *dev;
    struct pci_state *s;
    uint16_t vendor, id, subsystem;
    uint16_t subsystem_vendor; /* 0: the vendor */
    unsigned number;    /* of the function in its slot; each slot in use has function 0 */
    bool multifunction; /* function 0: the slot has others */
    uint32_t class;     /* base class, subclass, interface, 8 bits each */
    uint64_t
        bar_size; /* of BAR 0, a power of two: range 0 of the device. 0: it has none */
    unsigned vectors;                  /* MSI-X, at most PCI_VECTORS_MAX; 0: none */
    uint32_t table, pba;               /* their offsets in BAR 0 */
    bool msi;                          /* MSI: one message, which can be masked */
    void (*reset)(struct device *dev); /* function-level reset; NULL: none */
    /* A capability's registers were written, or are to be read: [at, at + size). NULL: none
     * has any. */
    void (*written)(struct device *dev, unsigned at, unsigned size);
    void (*reads)(struct device *dev, unsigned at, unsigned size);
    void (*moved)(struct device *dev); /* state.at may be another; NULL: nobody cares */

    struct pci_host *host;
    struct pci_function *next; /* in the same slot */
    unsigned slot;
    uint8_t fixed[PCI_CONFIG_SIZE]; /* at power-on */
    uint8_t mask[PCI_CONFIG_SIZE];  /* bits that the guest may write */
    unsigned caps_end, last_cap;
    unsigned msix, msi_at, af; /* where these capabilities are; 0: none */
};

/* The bridge, which is slot 0. The ports are served through pci_port_read and _write.
 * Return: as dev_create. */
struct pci_host *pci_host_create(const struct dev_env *env);

/* The same as an Intel 82441FX (i440FX) under QEMU, which firmware knows: with the registers
 * that say who answers between 768 KiB and 1 MiB (data sheet 290549, "PAM[6:0]"). */
#define PCI_PAM_AT   0x59u
#define PCI_PAM_SIZE 7u
struct pci_pam {
    /* The registers may have changed. */
    void (*moved)(void *opaque, const uint8_t pam[PCI_PAM_SIZE]);
    void *opaque;
};
struct pci_host *pci_host_create_440fx(const struct dev_env *env,
                                       const struct pci_pam *pam);
/* What stands beside it, in slot 1 (piix4.c). Return: as dev_create. */
struct piix4 *piix4_create(const struct dev_env *env, struct pci_host *host);
/* Ports 0xcf8..0xcff, but for the byte of the reset register. */
uint64_t pci_port_read(void *host, uint64_t offset, unsigned size);
void pci_port_write(void *host, uint64_t offset, unsigned size, uint64_t value);

/* Put a function into a slot, with its BAR where firmware would. Return: 0; -EEXIST; -ENOSPC:
 * no room in the window. */
int pci_attach(struct pci_host *host, struct pci_function *f, unsigned slot);
void pci_detach(struct pci_function *f);
/* Add a capability whose body (behind id and next pointer) is given, with the bits of the
 * body that the guest may write, or NULL. Return: its offset in configuration space. */
unsigned pci_add_capability(struct pci_function *f, uint8_t id, const void *body,
                            const uint8_t *mask, unsigned size);
/* For struct dev_class: power-on, check and settle. The device's range 0 is the BAR. */
void pci_reset(struct pci_function *f);
bool pci_check(const struct pci_function *f, const struct pci_state *s);
void pci_settle(struct pci_function *f);

/* May the function access memory and send messages? */
bool pci_is_master(const struct pci_function *f);
/* Level of INTA; it reaches the bridge only while the command register lets it. With MSI on the
 * message is sent instead, for every call with true. */
void pci_set_line(struct pci_function *f, bool level);
/* Is MSI-X on? Then a function has no INTA, and no MSI. */
bool pci_msix_on(const struct pci_function *f);
void pci_send(struct pci_function *f, unsigned vector);
/* The table and the pending bits, in BAR 0: of 4 bytes, aligned; others are dropped. */
uint32_t pci_msix_read(const struct pci_function *f, uint64_t offset);
void pci_msix_write(struct pci_function *f, uint64_t offset, uint32_t value);
