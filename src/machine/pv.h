/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's side of KVM's paravirtual interface, for engines that are no KVM:
 * MSRs, hypercalls, and the structures in guest memory behind them.
 */
#pragma once

#include "dev/dev.h"
#include "penumbra/pv.h"

struct pv_config {
    uint32_t features;     /* PN_PV_*, at least one */
    unsigned cpus;         /* at most PV_CPUS_MAX */
    int64_t epoch;         /* seconds since 1970 at clock 0 */
    struct pn_ring *rings; /* one per vCPU, or NULL */
    uint64_t (*tsc)(void *opaque, unsigned cpu, uint64_t now); /* at that clock */
    /* A halted vCPU goes on, without an event. Return: whether it was halted. */
    bool (*wake)(void *opaque, unsigned cpu);
    /* End the caller's turn; the next one is that vCPU's, if it can run. */
    void (*yield_to)(void *opaque, unsigned cpu);
    /* As intc_send. */
    bool (*send)(void *opaque, unsigned cpu, uint32_t low);
    void *opaque;
};

#define PV_CPUS_MAX 64u
struct pv;
/* env: its clock, and guest memory. Return: as dev_create. */
struct pv *pv_create(const struct dev_env *env, const struct pv_config *cfg);

/* Is this MSR the interface's, whatever is switched on? */
bool pv_is_msr(uint32_t index);
/* Return: 0, or -1 for #GP: a feature that is off, reserved bits, no such MSR. */
int pv_msr_read(struct pv *pv, unsigned cpu, uint32_t index, uint64_t *value);
int pv_msr_write(struct pv *pv, unsigned cpu, uint32_t index, uint64_t value);
/* Return: what the guest gets in RAX. */
int64_t pv_hypercall(struct pv *pv, unsigned cpu, uint64_t nr, const uint64_t arg[4]);
/* The vCPU was reset (INIT): nothing of it is in guest memory any more. */
void pv_reset(struct pv *pv, unsigned cpu);

/* The vCPU's state as the run loop sees it: it may run from now on, it runs, it stopped
 * running and could go on or not. */
void pv_ready(struct pv *pv, unsigned cpu);
void pv_enter(struct pv *pv, unsigned cpu);
void pv_leave(struct pv *pv, unsigned cpu, bool ready);
/* It halts: was it kicked before? Asking forgets the kick. */
bool pv_was_kicked(struct pv *pv, unsigned cpu);

/* intc_config's eoi_offer and eoi_withdraw. */
bool pv_eoi_offer(struct pv *pv, unsigned cpu);
bool pv_eoi_withdraw(struct pv *pv, unsigned cpu);
