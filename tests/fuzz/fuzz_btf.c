/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the reader of a kernel's types: whatever the bytes are, they are refused with a line of
 * text, or can be asked.
 *
 * Byte 0 chooses: the rest is the BTF; or it is the types, with a good header and names around
 * them, so that random bytes reach the types.
 */
#include <linux/btf.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/btf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char names[] = "\0task_struct\0pid\0mm_struct\0pgd";

static void ask(const struct types *t) {
    static const char *const what[][2] = {
        {"task_struct", "pid"}, {"mm_struct", "pgd.pid"}, {"mm_struct", "none"}};
    struct types_member m;
    for (unsigned i = 0; i < 3; i++)
        types_find(t, what[i][0], what[i][1], &m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size)
        return 0;
    char line[256] = "";
    struct err e = {line, sizeof(line)};
    struct types *t = NULL;
    bool wrap = data[0] & 1;
    uint32_t rest = (uint32_t)size - 1;
    struct btf_header h = {.magic = BTF_MAGIC,
                           .version = BTF_VERSION,
                           .hdr_len = sizeof(h),
                           .type_len = rest & ~3u,
                           .str_off = rest & ~3u,
                           .str_len = sizeof(names)};
    size_t total = wrap ? sizeof(h) + h.type_len + sizeof(names) : rest;
    uint8_t *btf = malloc(total ? total : 1);
    if (!btf)
        abort();
    if (wrap) {
        memcpy(btf, &h, sizeof(h));
        memcpy(btf + sizeof(h), data + 1, h.type_len);
        memcpy(btf + sizeof(h) + h.type_len, names, sizeof(names));
    } else {
        memcpy(btf, data + 1, rest);
    }
    if (types_parse(btf, total, "F", &t, &e) == 0)
        ask(t);
    else if (!line[0] || t)
        abort();
    types_free(t);
    free(btf);
    return 0;
}
