/* SPDX-License-Identifier: MIT */
/*
 * The guest's workloads and their parameters (workloads.inc) as tables, and how their
 * text is read. Compiled into the guest and into penumbra: no libc.
 *
 * What the guest prints, one line each, fields name=value separated by one blank:
 *
 *     workload: begin name=touch bytes=16777216 page=4K ...   every parameter
 *     workload: time tsc=N                                    TSC ticks, measured part
 *     workload: note TEXT                                     something is not as asked
 *     workload: end name=touch ops=131072 checksum=HEX        16 digits
 *     workload: error: TEXT                                   and an exit code below
 *
 * The checksum depends on the parameters alone: neither on the MMU nor on the host.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define WORKLOAD_PREFIX "workload: "

/* How the guest ends by itself: power-off for success, else these codes of the debug-exit
 * port, (value << 1) | 1, which `penumbra run` exits with. */
enum workload_exit {
    WORKLOAD_EXIT_WRONG = 33, /* a result was wrong, or an exception unexpected */
    WORKLOAD_EXIT_USAGE = 35, /* no such workload or parameter, or a value out of range */
    WORKLOAD_EXIT_MEMORY = 37, /* it needs more memory than the guest has */
    WORKLOAD_EXIT_HOST = 39,   /* the host does not serve what it asks for */
};

enum workload_id {
    WORKLOAD_NONE = -1,
#define WORKLOAD(name, ...) WORKLOAD_##name,
#define PARAM(...)
#include "bench/workloads.inc"
    WORKLOADS
};

/* Index into workload_params, and into an array of values. */
enum workload_param_id {
#define WORKLOAD(...)
#define PARAM(workload, name, ...) WORKLOAD_PARAM_##workload##_##name,
#include "bench/workloads.inc"
    WORKLOAD_PARAMS
};

struct workload {
    const char *name, *unit, *doc;
};

struct workload_param {
    int workload; /* enum workload_id */
    const char *name;
    const char *words; /* "a|b": a value is one of these; "": a number */
    uint64_t standard, min, max, quick;
    const char *doc;
};

extern const struct workload workloads[WORKLOADS];
extern const struct workload_param workload_params[WORKLOAD_PARAMS];

/* Names need not end in NUL. Return: the id, or -1. */
int workload_find(const char *name, size_t size);
int workload_param_find(int workload, const char *name, size_t size);

/* Digits, then K, M or G. Return: 0, or -1. */
int workload_number(const char *text, size_t size, uint64_t *value);
enum workload_text { WORKLOAD_OK, WORKLOAD_BAD_TEXT, WORKLOAD_OUT_OF_RANGE };
/* Read the value of a parameter. */
enum workload_text workload_value(int param, const char *text, size_t size,
                                  uint64_t *value);
/* The word that stands for a value: its first byte and its length. Return: NULL for a
 * parameter that is a number. */
const char *workload_word(int param, uint64_t value, size_t *size);
