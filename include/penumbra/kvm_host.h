/* SPDX-License-Identifier: MIT */
/*
 * What this host's /dev/kvm offers, found out and not guessed: whether it can be used or
 * why not, which module answers, which MMU it translates guest memory with, and how that
 * is known.
 */
#ifndef PENUMBRA_KVM_HOST_H
#define PENUMBRA_KVM_HOST_H

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

#define PN_KVM_CAPS 32

struct pn_kvm_host {
    enum pn_kvm_status status;
    int error;        /* errno behind status; 0 */
    char reason[160]; /* one line: what is wrong and what to do; "" when usable */
    int api;
    char vendor[32]; /* kvm_intel, kvm_amd, kvm_pvm; "" not known */
    enum pn_kvm_mmu mmu;
    char found_by[128];              /* the file or fact that says so */
    int tdp_mmu;                     /* kvm's parameter: 1, 0; -1 not there */
    int nx_huge_pages, halt_poll_ns; /* parameters; -1 not there */
    unsigned cap_count;
    struct {
        const char *name; /* KVM_CAP_ without the prefix */
        int value;        /* KVM_CHECK_EXTENSION; 0: absent */
        const char *used_for;
    } cap[PN_KVM_CAPS];
};

/* Look at the host. Creates and destroys one VM. Never fails: status and reason say. */
void pn_kvm_host_probe(struct pn_kvm_host *host);
/* Return: "TDP", "shadow", "shadow (software)", "unknown". */
const char *pn_kvm_mmu_name(enum pn_kvm_mmu mmu);

#endif
