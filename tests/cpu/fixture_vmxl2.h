/* SPDX-License-Identifier: MIT */
/*
 * An L2 under VMX that runs instructions until one of them exits, by translated code, under either
 * MMU; and the words that the exit says, which are compared and noted (src/cpu/vmx_words.inc).
 */
#pragma once

#include <check.h>
#include <string.h>

#include "cpu/control.h"
#include "fixture_l2.h"
#include "fixture_words.h"

enum vmx_word {
#define VMX_WORD(word, field) W_##word,
#define VMX_BITS(word, name, low, width, values)
#include "cpu/vmx_words.inc"
    WORDS
};

extern struct guest v2;
extern int v2_irq; /* a vector that waits, or -1 */

/* OUT brings an NMI. */
void v2_create(enum pn_mmu_kind kind);
void v2_destroy(void);
/* L2 anew: 64-bit, by EPT, its code empty, its registers 0; narrow: 32-bit code without paging. */
void v2_fresh(void);
void v2_narrow(void);
void v2_put(unsigned f, uint64_t value);
uint64_t v2_get(unsigned f);
void v2_set(unsigned f, uint64_t bits);
/* Its code, which goes on behind what was given before. */
void v2_code(const void *code, size_t size);
#define V2_CODE(...)                                                                     \
    v2_code((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
/* Entries of a page of L2's memory below 2 MiB: of EPT, and of its own tables; forget what was
 * translated. */
void v2_page(pn_gpa page, uint64_t bits);
void v2_own_page(pn_gpa page, uint64_t entry);
void v2_flush(void);
/* VMLAUNCH; L2 runs until that exit; halted: it halts first, and then the vector waits. */
void v2_run(uint32_t reason);
void v2_run_halted(int vector, uint32_t reason);
/* The MMU under which each word is tested, by the number of a loop's case. */
#define V2_KIND(i) ((i) ? PN_MMU_TDP : PN_MMU_SHADOW)
/* The word is that. */
void v2_says(enum vmx_word word, uint64_t value);
/* All of words first..last were seen. */
void v2_all_seen(enum vmx_word first, enum vmx_word last);
