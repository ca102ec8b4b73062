/* SPDX-License-Identifier: MIT */
/*
 * What firmware looks for behind an i440FX in slot 1: function 0, the bridge to the ISA devices, by
 * which OVMF finds the serial port; function 3, which says where the ACPI PM block is (acpi_pm.c).
 *
 *     function 0   60..63 where PIRQA to PIRQD go: kept, and without effect (INTA goes to the IO-APIC)
 *     function 3   40..43 PMBASE, always ACPI_PM_BASE   80 PMREGMISC, bit 0: PM block on, always
 *                  58..5b DEVACTB, bit 25: an SMI on writes to 0xb2. There is no SMM: it reads as
 *                  set, as in QEMU without SMM, and firmware leaves SMM alone
 *
 * Source: Intel 82371AB (PIIX4) data sheet 290562.
 */
#include <string.h>

#include "dev/pci.h"

#define INTEL        0x8086u
#define SLOT         1u
#define ID_ISA       0x7000u /* PIIX3's, as QEMU has it */
#define ID_PM        0x7113u
#define CLASS_ISA    0x060100u
#define CLASS_PM     0x068000u
#define FUNCTION_PM  3u
#define COMMAND      0x04u
#define DECODES      0x07u /* ports, memory, bus master: the bridge always does */
#define PIRQ         0x60u
#define PIRQ_NOWHERE 0x80u
#define PMBASE       0x40u
#define IO_SPACE     1u
#define DEVACTB_SMI  0x5bu /* bits 24 to 31 */
#define APMC_EN      0x02u
#define PMREGMISC    0x80u
#define PMIOSE       1u

struct piix4 {
    struct device dev;
    struct pci_function isa, pm;
    struct {
        struct pci_state isa, pm;
    } s;
};

static int create(void *dev, const void *config) {
    struct piix4 *p = dev;
    struct pci_host *host = *(struct pci_host *const *)config;
    p->isa = (struct pci_function){.dev = &p->dev,
                                   .s = &p->s.isa,
                                   .vendor = INTEL,
                                   .id = ID_ISA,
                                   .class = CLASS_ISA,
                                   .multifunction = true};
    p->pm = (struct pci_function){.dev = &p->dev,
                                  .s = &p->s.pm,
                                  .vendor = INTEL,
                                  .id = ID_PM,
                                  .class = CLASS_PM,
                                  .number = FUNCTION_PM};
    int rc = pci_attach(host, &p->isa, SLOT);
    if (rc == 0)
        rc = pci_attach(host, &p->pm, SLOT);
    if (rc)
        return rc;
    p->isa.fixed[COMMAND] = DECODES;
    p->isa.mask[COMMAND] = 0;
    memset(p->isa.fixed + PIRQ, PIRQ_NOWHERE, 4);
    memset(p->isa.mask + PIRQ, 0xff, 4);
    p->pm.fixed[PMBASE] = (ACPI_PM_BASE & 0xff) | IO_SPACE;
    p->pm.fixed[PMBASE + 1] = ACPI_PM_BASE >> 8;
    p->pm.fixed[DEVACTB_SMI] = APMC_EN;
    p->pm.fixed[PMREGMISC] = PMIOSE;
    return 0;
}

static void destroy(void *dev) {
    struct piix4 *p = dev;
    pci_detach(&p->pm);
    pci_detach(&p->isa);
}

static void reset(void *dev) {
    struct piix4 *p = dev;
    pci_reset(&p->isa);
    pci_reset(&p->pm);
}

static bool check(const void *dev, const void *state) {
    const struct piix4 *p = dev;
    const __typeof__(p->s) *s = state;
    return pci_check(&p->isa, &s->isa) && pci_check(&p->pm, &s->pm);
}

static const struct dev_class piix4_class = {
    .name = "piix4",
    .version = 1,
    DEV_STATE(struct piix4, s),
    .create = create,
    .destroy = destroy,
    .reset = reset,
    .check = check,
};

struct piix4 *piix4_create(const struct dev_env *env, struct pci_host *host) {
    return dev_create(&piix4_class, env, 0, &host);
}
