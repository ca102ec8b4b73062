/* SPDX-License-Identifier: MIT */
/*
 * The paravirtual features: what a guest may ask of its hypervisor through CPUID, MSRs
 * and hypercalls, in KVM's own interface (Linux, Documentation/virt/kvm/x86: cpuid.rst,
 * msr.rst, hypercalls.rst), whoever the hypervisor is.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bits of a set of features. */
#define PN_PV_PVCLOCK     1u  /* time from a page: no device is asked */
#define PN_PV_STEAL_TIME  2u  /* how long a runnable vCPU did not run */
#define PN_PV_EOI         4u  /* most interrupts end without a write to the APIC */
#define PN_PV_KICK_CPU    8u  /* a vCPU that halts for a lock is woken by a hypercall */
#define PN_PV_SEND_IPI    16u /* one hypercall for the IPIs to many vCPUs */
#define PN_PV_SCHED_YIELD 32u /* let another vCPU run now */
#define PN_PV_ALL         63u
/* Not chosen: the engine's own default, which is everything that KVM offers under KVM and
 * nothing under the software CPU. */
#define PN_PV_DEFAULT (1u << 31)

/* "name,name...", "all" or "none" into *set. Return: 0, or -EINVAL with one line in err.
 */
int pn_pv_parse(const char *text, uint32_t *set, char *err, size_t err_size);
/* "pvclock,pv-eoi", "all", "none" or "default" into buf. Return: buf. */
#define PN_PV_TEXT_MAX 80
const char *pn_pv_text(uint32_t set, char buf[PN_PV_TEXT_MAX]);
/* Name and meaning of feature i, i counting from 0; NULL beyond the last. */
const char *pn_pv_name(unsigned i);
const char *pn_pv_doc(unsigned i);

/* The set as the bits of EAX of CPUID leaf 0x40000001. */
uint32_t pn_pv_cpuid(uint32_t set);
