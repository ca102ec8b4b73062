/* SPDX-License-Identifier: MIT */
/*
 * What this host's /dev/kvm offers, found out and not guessed: whether it can be used or
 * why not, which module answers, which MMU it translates guest memory with, and how that
 * is known.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pn_kvm_status {
    PN_KVM_OK,
    PN_KVM_ABSENT,     /* no /dev/kvm */
    PN_KVM_PERMISSION, /* it is there, and not for us */
    PN_KVM_NO_MODULE,  /* the node is there, no driver behind it */
    PN_KVM_BAD_API,    /* not API version 12 */
    PN_KVM_VM_REFUSED, /* KVM_CREATE_VM fails */
    PN_KVM_ERROR
};

enum pn_kvm_mmu {
    PN_KVM_MMU_UNKNOWN,
    PN_KVM_MMU_TDP,     /* EPT or NPT */
    PN_KVM_MMU_SHADOW,  /* VMX or SVM with KVM's shadow paging */
    PN_KVM_MMU_SOFTWARE /* no VMX, no SVM: KVM runs guests in software, with shadow paging
                         */
};

#define PN_KVM_CAPS   40
#define PN_KVM_PARAMS 24

struct pn_kvm_host {
    enum pn_kvm_status status;
    int error;        /* errno behind status; 0 */
    char reason[200]; /* one line: what is wrong and what to do; "" when usable */
    int api;
    char vendor[32]; /* kvm_intel, kvm_amd, kvm_pvm; "" not known */
    enum pn_kvm_mmu mmu;
    char found_by[160];       /* the file or fact that says so */
    int tdp_mmu;              /* kvm's parameter: 1, 0; -1 not there */
    int stats_vm, stats_vcpu; /* counters of KVM_GET_STATS_FD; 0: none */
    int tsc_khz;              /* of a new vCPU; 0 not known */
    unsigned param_count;
    struct { /* parameters of kvm and the vendor module that shape memory management */
        const char *module, *name;
        char value[16]; /* as the file has it */
        const char *what;
    } param[PN_KVM_PARAMS];
    unsigned cap_count;
    struct {
        const char *name; /* KVM_CAP_ without the prefix */
        int value;        /* KVM_CHECK_EXTENSION; 0: absent */
        const char *used_for;
    } cap[PN_KVM_CAPS];
};

/* Find out everything above. Creates and destroys one VM with one vCPU. Never fails:
 * status and reason say what went wrong. */
void pn_kvm_host_probe(struct pn_kvm_host *host);
/* Open /dev/kvm and find status, reason, api, vendor, mmu and found_by; no VM is made.
 * Return: 0 and *fd, or -errno with status and reason. */
int pn_kvm_host_open(struct pn_kvm_host *host, int *fd);
/* Return: the capability's value; 0 when absent or not one of those probed. */
int pn_kvm_host_cap(const struct pn_kvm_host *host, const char *name);
/* Return: "TDP", "shadow", "shadow (software)", "unknown". */
const char *pn_kvm_mmu_name(enum pn_kvm_mmu mmu);
