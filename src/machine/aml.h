/* SPDX-License-Identifier: MIT */
/*
 * Few AML encoders (ACPI specification, chapter "ACPI Machine Language (AML)"), appending
 * to a fixed buffer. A full buffer sets `full` and drops the rest: checked once, at the
 * end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
    uint8_t *buf;
    size_t size, used;
    bool full;
};

void aml_bytes(struct aml *a, const void *data, size_t size);
/* Blocks with a package length: begin returns what end wants; they nest. */
size_t aml_scope(struct aml *a, const char *name); /* "\\_SB_" or "NAME" */
size_t aml_device(struct aml *a, const char *name);
size_t aml_package(struct aml *a, unsigned elements);
void aml_end(struct aml *a, size_t begin);
/* Name (name, ...): followed by one of the terms below. */
void aml_name(struct aml *a, const char *name);
void aml_integer(struct aml *a, uint64_t value);
void aml_string(struct aml *a, const char *text);
/* A plug-and-play id as a compressed EISA id: "PNP0501". */
void aml_eisaid(struct aml *a, const char *id);
/* A buffer: a resource template, with its end tag. */
void aml_buffer(struct aml *a, const void *data, size_t size);
/* A resource template of one IO range and, with irq >= 0, one edge-triggered IRQ. */
void aml_io_irq(struct aml *a, uint16_t port, uint8_t length, int irq);
