/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

/* A VM of ram_size bytes and one vCPU on /dev/kvm runs `code` in real mode at 0x7c00.
 * What the guest writes to COM1 goes to stdout. Return: 1 with a line on stderr, never 0.
 * */
int least_vmm(const void *code, size_t code_size, size_t ram_size);
