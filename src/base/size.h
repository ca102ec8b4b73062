/* SPDX-License-Identifier: MIT */
/* Sizes as text: 4096, 512M, 1.5GiB; and numbers. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Decimal digits and at most one suffix K, M, G or T (either case) or KiB, MiB, GiB or
 * TiB, all powers of 1024. Up to 6 digits may follow a point where that gives whole 4 KiB
 * pages. KB and the like are refused: some mean 1000 by them.
 * Return: 0; -EINVAL not such a text; -ERANGE more than 64 bits. */
int size_parse(const char *text, uint64_t *out);

#define SIZE_TEXT_MAX 24
/* The shortest exact text with a suffix, "512M"; bytes where no suffix is exact.
 * Return: buf. */
const char *size_text(uint64_t size, char buf[SIZE_TEXT_MAX]);

/* A decimal number, also 1e6 or 5.8e9, or one with 0x, within [min, max]. Return: 0, -EINVAL or
 * -ERANGE. */
int number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *value);
