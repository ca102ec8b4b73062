/* SPDX-License-Identifier: MIT */
/* Between the files that make a result. */
#ifndef BENCH_RESULT_INTERNAL_H
#define BENCH_RESULT_INTERNAL_H

#include "bench/harness/result.h"

/* The member "modelled" of a result, of in->model (result_model.c). */
json_t *result_modelled(const struct result_input *in);
/* Return: what is wrong with such a member, read from a file, or NULL. */
const char *result_check_modelled(const json_t *modelled);

#endif
