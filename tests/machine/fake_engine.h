/* SPDX-License-Identifier: MIT */
/*
 * An engine that runs a script instead of code: for the run loop. Every vCPU has a list
 * of steps; one step of STEP_RUN n retires n instructions, the others retire one.
 */
#pragma once

#include "penumbra/engine.h"

enum step_kind {
    STEP_RUN,   /* n instructions */
    STEP_OUT,   /* a = port, b = value, one byte */
    STEP_IN,    /* a = port; the value is kept in `seen` */
    STEP_MMIO,  /* 4-byte write of b to a */
    STEP_HLT,   /* wait for an interrupt; takes it when interrupts are on */
    STEP_STI,   /* interrupts on (vCPUs start with them off) */
    STEP_LOOP,  /* back to step a */
    STEP_CRASH, /* triple fault */
    STEP_FAIL   /* the host fails */
};

struct step {
    enum step_kind kind;
    uint64_t a, b;
};

#define FAKE_CPUS 4
#define FAKE_SEEN 64

/* What the test gives and finds; reached through the configuration's cpu_model, so that
 * the engine needs no globals. */
struct fake {
    const struct step *script[FAKE_CPUS];
    unsigned seen_count;
    struct {
        unsigned cpu;
        uint64_t time, value;
    } seen[FAKE_SEEN]; /* bytes read, and vectors taken (value = 0x100 + vector) */
    uint64_t start[FAKE_CPUS]; /* CS base + RIP when it first ran, by vCPU */
    unsigned kicks;
};

extern const struct pn_engine_ops fake_engine;
