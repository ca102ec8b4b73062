/* SPDX-License-Identifier: MIT */
/*
 * Which part of the engine a thread is in, for whoever looks at it from a signal handler.
 *
 * The functions that a part begins with are in a section of their own. So the addresses on the
 * thread's stack tell the part, and nobody notes anything while the guest runs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum pn_part {
#define PART(name, sections, meaning) PN_PART_##name,
#include "penumbra/parts.inc"
    PN_PARTS
};

/* Before the definition of a function that the part begins with. */
#define PN_IN_TRANSLATE __attribute__((section("pn_part_translate")))
#define PN_IN_MISS      __attribute__((section("pn_part_miss")))
#define PN_IN_FAULT     __attribute__((section("pn_part_fault")))
#define PN_IN_FLUSH     __attribute__((section("pn_part_flush")))
#define PN_IN_HELPER    __attribute__((section("pn_part_helper")))
#define PN_IN_DEVICE    __attribute__((section("pn_part_device")))

/* Where a vCPU is, as a signal handler on its thread finds it. */
struct pn_where {
    uint64_t
        rip; /* in translated code: of the block; else of the instruction or what is next */
    uint64_t cr3;
    unsigned cpu;
    uint8_t cpl;
    bool translated; /* the thread is in translated code */
    bool nested;     /* the guest of the guest's hypervisor runs */
};
