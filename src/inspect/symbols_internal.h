/* SPDX-License-Identifier: MIT */
/* What the readers of symbols share: they add what they find. */
#pragma once

#include <stdbool.h>

#include "inspect/symbols.h"

struct symbol {
    uint64_t from, to; /* to 0: up to the next one */
    uint32_t name;     /* offset in names */
    bool function;     /* else it only ends the one before it */
    bool weak;
};

struct symbols {
    struct symbol *symbol;
    size_t count, room;
    char *names;
    size_t used, names_room;
};

/* A symbol without a name is left out; what cannot be printed in one becomes '?'.
 * Return: 0, or -ENOMEM. */
int symbols_add(struct symbols *s, const struct symbol *what, const char *name,
                size_t length);

/* When all are added: sort them, and end each where the next one begins. name is for the line.
 * Return: 0, or -EINVAL: no function is among them. */
int symbols_finish(struct symbols *s, const char *name, struct err *e);

bool symbols_is_elf(const uint8_t *data, size_t size);
/* What a section of that name holds. Return: false: there is none, or no ELF with sections. */
bool symbols_elf_section(const uint8_t *data, size_t size, const char *name,
                         const uint8_t **content, size_t *content_size);
/* ELF's .symtab (symbols_elf.c). Return: 0, also when it has none; -ENOMEM. */
int symbols_add_elf(struct symbols *s, const uint8_t *data, size_t size);
/* Linux's kallsyms (kallsyms.c). Return: 0, also when there are none; -ENOMEM. */
int symbols_add_kallsyms(struct symbols *s, const uint8_t *data, size_t size);
