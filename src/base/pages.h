/* SPDX-License-Identifier: MIT */
/*
 * Pages of our own memory, asked for together. A first touch of each 4 KiB is a fault of the
 * host's, and dear where the host is a guest itself (17 us each, 1 us asked for together).
 * All of it is a hint: what the host does not know is as before.
 */
#pragma once

#include <stddef.h>

/* As malloc, for some MiB that are soon filled: huge pages. free() gives them back. */
void *pages_alloc(size_t bytes);
/* These bytes are about to be written: whole pages of them now. */
void pages_want(void *at, size_t bytes);
/* The same in huge pages, when they are touched. */
void pages_huge(void *at, size_t bytes);
