/* SPDX-License-Identifier: MIT */
/* The members of a result, between the files of result*.c. */
#pragma once

#include "bench/harness/result.h"

/* What holds the last name of "group.member": an object, or null where a group on the way
 * is null, or NULL. Return: it, and that name. */
json_t *result_group(const json_t *result, const char *path, const char **name);
/* Return: the path of a member that a result from a file lacks or has wrong, or NULL. */
const char *result_check(const json_t *result);
