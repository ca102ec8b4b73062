/* SPDX-License-Identifier: MIT */
/*
 * Names of a guest's functions, from a file that belongs to the guest:
 *
 *   - System.map, or what nm or /proc/kallsyms prints: lines "ADDRESS TYPE NAME";
 *   - an ELF with a .symtab;
 *   - a Linux kernel, vmlinux or bzImage: the kallsyms that it carries for itself.
 *
 * Nothing in the file is trusted. No locks: once loaded, symbols are only read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct symbols;
#define SYMBOLS_NONE UINT32_MAX

/* Return: 0; -EINVAL: no symbols, or damaged; what file_read said; with a line in e. */
int symbols_load(const char *path, struct symbols **out, struct err *e);
/* The same of a file's content; name is for the line. */
int symbols_parse(const void *data, size_t size, const char *name, struct symbols **out,
                  struct err *e);
void symbols_free(struct symbols *s); /* NULL: nothing */

/* How many symbols there are, functions or not. */
size_t symbols_count(const struct symbols *s);
/* The function that the address lies in. Return: its number, or SYMBOLS_NONE. */
uint32_t symbols_at(const struct symbols *s, uint64_t address);
/* The function of that name. Return: the same. */
uint32_t symbols_named(const struct symbols *s, const char *name);
/* The address of a symbol of that name, function or not. Return: false: there is none. */
bool symbols_value(const struct symbols *s, const char *name, uint64_t *address);
const char *symbols_name(const struct symbols *s, uint32_t number);
/* Its addresses: *from up to, without, *to. */
void symbols_range(const struct symbols *s, uint32_t number, uint64_t *from,
                   uint64_t *to);
