/* SPDX-License-Identifier: MIT */
/*
 * What the files of ring 0 share.
 *
 * KVM without EPT or NPT runs ring 0 in its instruction emulator, at a few million a
 * second and without popcnt, int n, sysret and vector registers: this ring is short.
 */
#pragma once

#include "abi.h"

struct trap_frame {
    uint64_t rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

/* kernel.c */
__attribute__((noreturn)) void panic(const char *what, const struct trap_frame *f);
extern uint64_t counts[COUNTS];

static inline void outb(uint16_t port, uint8_t v) {
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint8_t inb(uint16_t port) {
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline void outw(uint16_t port, uint16_t v) {
    __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port));
}

static inline void write_msr(uint32_t index, uint64_t v) {
    __asm__ volatile("wrmsr" : : "a"((uint32_t)v), "d"((uint32_t)(v >> 32)), "c"(index));
}

static inline uint64_t read_msr(uint32_t index) {
    uint32_t lo, hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(index));
    return lo | (uint64_t)hi << 32;
}

static inline void cpuid(uint32_t leaf, uint32_t out[4]) {
    __asm__ volatile("cpuid"
                     : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                     : "a"(leaf), "c"(0));
}

/* nested.c: as the calls say (abi.h). */
uint64_t nested_set_up(uint64_t way, uint64_t pages, uint64_t rounds, uint64_t stride);
void nested_run(void);

/* tables.c: physical memory, page tables, and the calls about them. */

/* Identity map and address space 0 for RAM up to `end`; loads CR3. */
void tables_init(uint64_t end);
uint64_t tables_free(void);
uint64_t tables_alloc(uint64_t bytes, uint64_t align);
uint64_t tables_map(uint64_t gva, uint64_t pa, uint64_t n, uint64_t flags);
uint64_t tables_unmap(uint64_t gva, uint64_t n, uint64_t flags);
uint64_t tables_protect(uint64_t gva, uint64_t n);
uint64_t tables_swap(uint64_t a, uint64_t b);
uint64_t tables_space(void);
uint64_t tables_switch(uint64_t space, uint64_t noflush);
uint64_t tables_pcid(uint64_t on);
uint64_t tables_fork(uint64_t space, uint64_t gva, uint64_t n);
uint64_t tables_drop(uint64_t space, uint64_t gva, uint64_t n);
uint64_t tables_split(uint64_t gva);
uint64_t tables_merge(uint64_t gva);
/* How many of n pages have all of `mask`; clear: take A and D away and flush. */
uint64_t tables_bits(uint64_t gva, uint64_t n, uint64_t mask, int clear);
#define PTE_A 0x20ul
#define PTE_D 0x40ul

/* The frames of all tables in use. Return: how many, n at most. */
uint64_t tables_list(uint64_t *list, uint64_t n);

uint64_t tables_on_fault(uint64_t what, uint64_t gva, uint64_t n, uint64_t pa);
/* A #PF of ring 3. Return: 0, or -1 when nothing says what it means. */
int tables_fault(uint64_t gva, uint64_t error);
