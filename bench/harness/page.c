/* SPDX-License-Identifier: MIT */
#include "bench/harness/page.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

int page_write(int fd, const char *page, const char *end, const struct page_part *part,
               unsigned parts) {
    int rc = 0;
    for (unsigned i = 0; i < parts && !rc; i++) {
        const char *marker = part[i].marker;
        const char *m = memmem(page, (size_t)(end - page), marker, strlen(marker));
        if (!m || !part[i].text)
            return m ? -ENOMEM : -EINVAL;
        rc = file_write(fd, page, (size_t)(m - page));
        page = m + strlen(marker);
        if (!rc)
            rc = file_write(fd, part[i].text, part[i].size);
    }
    return rc ? rc : file_write(fd, page, (size_t)(end - page));
}

/* '<' occurs in JSON's strings alone, and is written as an escape there. */
char *page_json(const json_t *value) {
    char *text =
        json_dumps(value, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(12));
    char *out = text ? malloc(strlen(text) * 6 + 1) : NULL, *to = out;
    for (const char *p = text; out && *p; p++) {
        if (*p == '<')
            to = stpcpy(to, "\\u003c");
        else
            *to++ = *p;
    }
    if (out)
        *to = 0;
    free(text);
    return out;
}
