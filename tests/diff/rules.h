/* SPDX-License-Identifier: MIT */
/* What the test cannot compare, by rule. */
#pragma once

#include "cpu/model.h"
#include "gen.h"

enum diff_left {
    DIFF_RUN,
    DIFF_LEFT_FEATURE,  /* CPUID does not offer it: the host may have it all the same */
    DIFF_LEFT_KERNEL,   /* enters the host's kernel or its hypervisor, which answer */
    DIFF_LEFT_RESERVED, /* the manual calls these prefixes reserved there */
    DIFF_LEFT_COUNT
};

struct diff_rules {
    const struct cpu_model *model;
    bool isa[ZYDIS_ISA_SET_MAX_VALUE + 1];
    bool umip; /* the host's kernel emulates what it forbids */
};

/* What is not compared of one outcome. */
struct diff_mask {
    uint64_t rflags; /* these are compared */
    uint32_t gpr;    /* these are not, by bit */
    bool blocks;     /* guests that do not step can be compared, too */
};

/* The model of this host's CPU as far as its CPUID tells of it: text as for --cpu. vendor:
 * whose rules hold in it, or NULL: the host's. Return: whether they are the host's. */
bool diff_model(char *text, size_t size, const char *vendor);
void diff_rules_init(struct diff_rules *r, const struct cpu_model *model);
enum diff_left diff_leave_out(const struct diff_rules *r, const struct diff_case *c,
                              const struct diff_insn *in);
/* Fill *m, and the ranges of c that are not compared. */
void diff_mask(const struct diff_insn *in, struct diff_case *c, struct diff_mask *m);
