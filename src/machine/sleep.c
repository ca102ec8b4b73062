/* SPDX-License-Identifier: MIT */
/*
 * ACPI S3, suspend to RAM. Memory, the RTC and the ACPI PM block keep their power; vCPUs,
 * interrupt controllers and all other devices lose theirs. Who wakes the machine is the PM
 * block's to say. The boot CPU then starts where the FACS says, as firmware starts it.
 *
 * Sources: ACPI specification 6.5, "S3 Sleeping State", "Waking and Initialization",
 * "Firmware ACPI Control Structure (FACS)": a waking vector is entered in real mode, the X
 * one in flat 32-bit code without paging, or if the OS asks for that in 64-bit code with
 * memory mapped one to one; all without interrupts. With --firmware that is the firmware's to do:
 * it starts at its reset vector, and CMOS says why.
 *
 * Invariants
 * 1. Falling asleep and waking happen between two runs, never inside one.
 * 2. While the machine is asleep no vCPU runs and only the devices that are kept have timers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine/state.h"

#define FACS_VECTOR   12u
#define FACS_X_VECTOR 24u
#define FACS_OSPM     40u /* flags that the OS sets */
#define FACS_SIZE     64u
#define OSPM_WAKE_64  1u /* 64BIT_WAKE_F */
#define WAKE_REACH    39 /* bits of an address that the tables can map */

int machine_sleep_keep(struct machine *m, struct err *e) {
    m->power_on =
        calloc(1, sizeof(*m->power_on) + m->cfg.cpus * sizeof(m->power_on->cpu[0]));
    if (!m->power_on)
        return err_set(e, -ENOMEM, "out of memory");
    int rc = machine_pack(m, true, m->power_on);
    return rc ? err_sys(e, rc, "the state at power-on") : 0;
}

void machine_ask_sleep(struct machine *m) {
    if (m->sleep != AWAKE || m->ended)
        return;
    m->sleep = GOES_TO_SLEEP;
    machine_call_out(m);
    if (m->running ||
        machine_in_parallel(m)) /* under --clock host, too, no instruction follows */
        m->ops->kick(m->engine, m->current);
}

void machine_ask_wake(struct machine *m) {
    m->wakes |= m->sleep != AWAKE;
}

static void fall_asleep(struct machine *m) {
    for (unsigned i = 0; i < m->cfg.cpus; i++) {
        m->cpu[i].init = false;
        m->cpu[i].sipi = -1;
    }
    m->sleep = ASLEEP;
    m->lines = 0;
    dev_bus_sleep(m->bus);
}

/* Where the boot CPU starts; rip 0: nowhere. wide: it was in long mode when it fell asleep,
 * so that it has it. Return: 0 or -EIO. */
static int read_vector(struct machine *m, bool wide, struct entry *entry) {
    uint8_t facs[FACS_SIZE];
    uint64_t x;
    uint32_t real;
    if (m->ops->read_phys(m->engine, ACPI_FACS, facs, FACS_SIZE) != FACS_SIZE)
        return -EIO;
    memcpy(&x, facs + FACS_X_VECTOR, sizeof(x));
    memcpy(&real, facs + FACS_VECTOR, sizeof(real));
    *entry = (struct entry){.mode = x ? ENTRY_PROTECTED : ENTRY_REAL,
                            .rip = x ? (uint32_t)x : real};
    if (x && wide && facs[FACS_OSPM] & OSPM_WAKE_64)
        *entry = (struct entry){.mode = ENTRY_LONG, .rip = x >> WAKE_REACH ? 0 : x};
    return 0;
}

static void put_table(void *opaque, uint64_t gpa, const uint64_t table[512]) {
    struct machine *m = opaque;
    m->ops->write_phys(m->engine, gpa, table, PN_PAGE_SIZE);
}

static int start(struct machine *m, bool wide) {
    struct entry entry;
    if (m->bios) { /* at its reset vector */
        rtc_put(m->rtc, RTC_SHUTDOWN, RTC_WAKES);
        return 0;
    }
    int rc = read_vector(m, wide, &entry);
    if (rc)
        return rc;
    if (!entry.rip) { /* firmware boots anew then */
        machine_end_with(m, END_RESET, 0);
        return 0;
    }
    struct pn_cpu_state *s = malloc(sizeof(*s));
    if (!s)
        return -ENOMEM;
    *s = m->power_on->cpu[0];
    entry_state(&entry, s);
    if (entry.mode != ENTRY_REAL)
        s->gdtr_base = s->gdtr_limit = 0; /* what it was loaded from is the guest's */
    if (entry.mode == ENTRY_LONG) {
        s->cr3 = WAKE_PML4;
        entry_identity(WAKE_PML4, entry.rip, put_table, m);
    }
    rc = m->ops->set_state(m->engine, 0, s);
    free(s);
    return rc;
}

static int was_in_long_mode(struct machine *m, bool *wide) {
    struct pn_cpu_state *s = malloc(sizeof(*s));
    if (!s)
        return -ENOMEM;
    int rc = m->ops->get_state(m->engine, 0, s);
    *wide = rc == 0 && s->efer & EFER_LMA;
    free(s);
    return rc;
}

static int wake_up(struct machine *m) {
    bool wide;
    int rc = was_in_long_mode(m, &wide);
    m->sleep = AWAKE;
    m->wakes = false;
    if (rc == 0)
        rc = machine_unpack(m, m->ops, m->power_on);
    for (unsigned i = 0; m->pv && i < m->cfg.cpus; i++)
        pv_reset(m->pv, i);
    return rc ? rc : start(m, wide);
}

int machine_sleep_turn(struct machine *m, struct err *e) {
    if (m->sleep == GOES_TO_SLEEP)
        fall_asleep(m);
    int rc = m->wakes ? wake_up(m) : 0;
    return rc ? err_sys(e, rc, "waking from ACPI S3") : 0;
}
