/* SPDX-License-Identifier: MIT */
/* What the files about a Linux guest share. */
#pragma once

#include "inspect/linux.h"

#define LINUX_KERNEL_MAP                                                                 \
    0xffffffff80000000ull /* __START_KERNEL_map: KASLR moves what is here */
#define LINUX_CR3_PAGE 0x000ffffffffff000ull
#define LINUX_CR3_USER 0x1000ull /* PTI_USER_PGTABLE_MASK */

struct linux_image {
    struct symbols *symbols;
    struct types *types;
    uint64_t symbol[LINUX_SYMBOLS]; /* as linked; LINUX_ABSENT: it has none */
#define LINUX_ABSENT                 UINT64_MAX
#define MEMBER(name, of, path, need) struct types_member name;
#include "inspect/linux_members.inc"
};

/* A member of what is at `at`. Return: false: not mapped. */
bool linux_read(const struct linux_guest *g, uint64_t at, void *buf, size_t size);
bool linux_u64(const struct linux_guest *g, uint64_t at, const struct types_member *m,
               uint64_t *value);
bool linux_u32(const struct linux_guest *g, uint64_t at, const struct types_member *m,
               uint32_t *value);
/* The kernel's variable of 8 bytes, or `other` where there is none. */
uint64_t linux_value(const struct linux_guest *g, enum linux_symbol s, uint64_t other);
/* A name of the guest's, up to its NUL or size - 1 bytes, as one that can be printed. Return:
 * false: empty, or not readable. */
bool linux_name(const struct linux_guest *g, uint64_t at, char *buf, size_t size);
/* How far the per-CPU area of a CPU is from where it is linked (arch/x86/kernel/setup_percpu.c). */
bool linux_per_cpu(const struct linux_guest *g, unsigned cpu, uint64_t *offset);
/* An address of the kernel's half. */
bool linux_is_kernel(uint64_t address);
