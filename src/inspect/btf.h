/* SPDX-License-Identifier: MIT */
/*
 * The types that a Linux kernel carries for itself, BTF (the kernel's
 * Documentation/bpf/btf.rst): where a member is in its structure.
 *
 * The bytes are the guest's, and are not trusted: libbpf gets a copy whose lengths have been
 * checked. No locks: once parsed, types are only read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct types;

/* data: what the section .BTF holds; name is for the line.
 * Return: 0; -EINVAL: no BTF, damaged, or of a kind that is not known; -ENOMEM. */
int types_parse(const void *data, size_t size, const char *name, struct types **out,
                struct err *e);
void types_free(struct types *t); /* NULL: nothing */

struct types_member {
    uint32_t offset, size; /* bytes */
};
/* The member at a path such as "mm_mt.ma_root" of a structure; what lies in nameless parts
 * of it is found, too; an empty path is the whole structure. Return: false: there is none, or it is a bit field. */
bool types_find(const struct types *t, const char *of, const char *path,
                struct types_member *m);
