/* SPDX-License-Identifier: MIT */
/* What KVM keeps of a guest's guest, for the software CPU. */
#pragma once

#include "cpu/svm.h"

/* What SVM's host save area is to hold where that state, which is KVM's, goes on. Return: 1: it is
 * in save; 0: the state has nothing of KVM's; -ENOTSUP: VMX's, whose VMCSs have KVM's layout;
 * -EAGAIN: not between these two instructions; -EINVAL. */
int kvm_nested_host(const struct pn_cpu_state *s, uint8_t save[SAVE_SIZE]);
/* May a guest that is a hypervisor, by "svm" or "vmx", go from the software CPU to this host's KVM?
 * Return: no: a line is in err. */
bool kvm_nested_goes_there(const char *by, char *err, size_t err_size);
