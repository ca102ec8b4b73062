/* SPDX-License-Identifier: MIT */
/* `explain` for an address (penumbra/explain.h), for a person and for a program. No vCPU runs
 * meanwhile. */
#pragma once

#include <jansson.h>

#include "inspect/view.h"

/* Return: 0, or -ENOMEM. */
int explain_print(const struct view *v, pn_gva gva, FILE *out);
/* Schema penumbra-explain-1 (bench/FORMATS.md). Return: a new reference; NULL: out of
 * memory. */
json_t *explain_json(const struct view *v, pn_gva gva);

/* The ways of its walks, drawn as one SVG (explain_svg.c). Return: 0, or -ENOMEM. */
int explain_svg(const struct view *v, pn_gva gva, FILE *out);
/* The same into an open file. Return: 0 or -errno. */
int explain_svg_file(const struct view *v, pn_gva gva, int fd);

/* References of a cold walk in three dimensions, as they are counted: of the guest's tables that
 * its walk reads, under two second levels of four levels each and pages of 4 KiB. */
unsigned explain_nested(const struct pn_explanation *x);

/* ---- words.c ---- */

/* An entry's bits as words; host addresses are not there. */
void entry_print(const struct pn_explanation *x, const struct pn_step *s, FILE *out);
void spte_print(uint64_t v, FILE *out);
/* A number of an event's type as words (trace.h), into buf. Return: buf. */
#define WORDS_MAX 128u
const char *words_of(unsigned type, uint64_t value, char buf[WORDS_MAX]);
/* "CPL 3" ... of enum pn_tlb_mode; "read" ... of enum pn_access. */
const char *mode_words(unsigned mode);
const char *access_words(unsigned access);
/* "4 KiB" of a level of 9 bits, or of 4 MiB pages. */
const char *page_words(unsigned level, bool pse);
const char *outcome_words(enum pn_outcome outcome); /* "mapped" */
const char *outcome_means(enum pn_outcome outcome); /* as outcomes.inc says */
