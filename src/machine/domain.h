/* SPDX-License-Identifier: MIT */
/*
 * A subset of libvirt's domain XML as options of `run` (a file of --config): domain.inc lists what is
 * taken. The XML may be anybody's: it is bounded, entities that it declares are refused, and nothing that it names
 * is opened.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

#define DOMAIN_XML_MAX (4u << 20) /* bytes */

/* A line about something that was left out, or taken for something near it. */
typedef void (*domain_note_fn)(void *opaque, const char *line);

/* Return: 0 and *out, a new JSON object; -EINVAL with a line in e: no such XML, or a value that cannot be;
 * -ENOENT: the parser's library is missing; -ENOMEM. */
int domain_convert(const char *xml, size_t size, domain_note_fn note, void *opaque,
                   json_t **out, struct err *e);
