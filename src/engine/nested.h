/* SPDX-License-Identifier: MIT */
/* What KVM keeps of a guest's guest, for the software CPU. */
#pragma once

#include "cpu/svm.h"

/* What SVM's host save area is to hold where that state, which is KVM's, goes on, and the event that
 * VMRUN has still to deliver, as EVENTINJ has it. Return: 1: they are in save and event; 0: the
 * state has nothing of KVM's; -ENOTSUP: VMX's, whose VMCSs have KVM's layout; -EINVAL. */
int kvm_nested_host(const struct pn_cpu_state *s, uint8_t save[SAVE_SIZE],
                    uint64_t *event);
/* May a guest that is a hypervisor, by "svm" or "vmx", go from the software CPU to this host's KVM?
 * Return: no: a line is in err. */
bool kvm_nested_goes_there(const char *by, char *err, size_t err_size);
