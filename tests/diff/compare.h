/* SPDX-License-Identifier: MIT */
/* Two outcomes, and what to say of them. */
#pragma once

#include "guest.h"
#include "rules.h"

/* Are the guest's outcome a and the host's b equal? own: DIFF_OWN of them; steps: the guest
 * ran with TF. */
bool diff_equal(const struct diff_own *own, const struct diff_case *c,
                const struct diff_insn *in, const struct diff_mask *m, bool steps,
                const struct diff_outcome *a, const struct diff_outcome *b);
/* What an instruction is called: its mnemonic, or "undefined". */
const char *diff_name(const struct diff_insn *in);
/* Print the case and what differs. */
void diff_print(const struct diff_case *c, const struct diff_insn *in,
                const struct diff_mask *m, const struct diff_outcome *a,
                const struct diff_outcome *b);
/* Print what differs in memory. */
void diff_print_memory(const struct diff_case *c, const uint8_t *guest,
                       const uint8_t *host);
