/* SPDX-License-Identifier: MIT */
/* Pages that need nothing else: a template, and what stands in it for its markers. */
#pragma once

#include <jansson.h>
#include <stddef.h>

/* The library that draws charts (Debian: libjs-chart.js), as bytes. */
extern const char bench_chart[], bench_chart_end[];

struct page_part {
    const char *marker; /* "@DATA@" */
    const char *text;
    size_t size;
};

/* Write the template [page, end) with the text of each part in the place of its marker;
 * parts in the order of their markers. Return: 0 or -errno; -EINVAL: a marker is missing. */
int page_write(int fd, const char *page, const char *end, const struct page_part *part,
               unsigned parts);
/* The value as text that may stand inside a script element, to be freed. Return: NULL: no
 * memory. */
char *page_json(const json_t *value);
