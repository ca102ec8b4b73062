/* SPDX-License-Identifier: MIT */
/* The embedded guest: a freestanding ELF64 at 1 MiB, built with this program. It is what
 * `penumbra run` boots without --kernel, and what MMUs are compared with. */
#pragma once

#include <stdint.h>

extern const uint8_t pn_guest_elf[], pn_guest_elf_end[];
