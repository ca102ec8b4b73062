/* SPDX-License-Identifier: MIT */
/*
 * The packed kernel in a bzImage, unpacked on the host. By magic, as the kernel's
 * lib/decompress.c; the build appends the unpacked size to every format but gzip, whose
 * own last field it is.
 *
 * Invariant: the output is exactly as long as that size says, never longer than max, and
 * goes to memory of that size; a packed bomb stops at its end.
 */
#include <errno.h>
#include <inttypes.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/pages.h"
#include "base/size.h"
#include "machine/internal.h"

struct span {
    const uint8_t *in;
    size_t in_size;
    uint8_t *out;
    size_t out_size;
};

static uint32_t le32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static int unpack_gzip(const struct span *s) {
    z_stream z = {.next_in = (Bytef *)s->in,
                  .avail_in = (uInt)s->in_size,
                  .next_out = s->out,
                  .avail_out = (uInt)s->out_size};
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
        return -ENOMEM;
    int rc = inflate(&z, Z_FINISH);
    size_t done = z.total_out;
    inflateEnd(&z);
    return rc == Z_STREAM_END && done == s->out_size ? 0 : -EINVAL;
}

/* xz, and the older .lzma whose header the same library reads. */
static int unpack_xz(const struct span *s) {
    lzma_stream z = LZMA_STREAM_INIT;
    if (lzma_auto_decoder(&z, 256u << 20, 0) != LZMA_OK)
        return -ENOMEM;
    z.next_in = s->in;
    z.avail_in = s->in_size;
    z.next_out = s->out;
    z.avail_out = s->out_size;
    /* An .lzma of unknown length ends by a marker or with the input: running out of
     * either buffer with all output made is the end. */
    lzma_ret rc;
    do
        rc = lzma_code(&z, LZMA_FINISH);
    while (rc == LZMA_OK && z.avail_out);
    size_t done = z.total_out;
    lzma_end(&z);
    return (rc == LZMA_STREAM_END || rc == LZMA_OK) && done == s->out_size ? 0 : -EINVAL;
}

/* The legacy frame of `lz4 -l`: a magic, then chunks of at most 8 MiB unpacked, each with
 * its packed size before it. */
static int unpack_lz4(const struct span *s) {
    size_t in = 4, out = 0;
    while (out < s->out_size) {
        if (s->in_size - in < 4)
            return -EINVAL;
        uint32_t chunk = le32(s->in + in);
        in += 4;
        if (chunk == 0x184c2102u)
            continue; /* frames may follow each other */
        if (chunk > s->in_size - in || chunk > INT32_MAX)
            return -EINVAL;
        size_t room = s->out_size - out;
        int n =
            LZ4_decompress_safe((const char *)s->in + in, (char *)s->out + out,
                                (int)chunk, (int)(room < INT32_MAX ? room : INT32_MAX));
        if (n <= 0)
            return -EINVAL;
        in += chunk;
        out += (size_t)n;
    }
    return 0;
}

static int unpack_zstd(const struct span *s) {
    size_t frame = ZSTD_findFrameCompressedSize(s->in, s->in_size);
    if (ZSTD_isError(frame))
        return -EINVAL;
    size_t n = ZSTD_decompress(s->out, s->out_size, s->in, frame);
    return !ZSTD_isError(n) && n == s->out_size ? 0 : -EINVAL;
}

static int unpack_none(const struct span *s) {
    memcpy(s->out, s->in, s->out_size);
    return 0;
}

static int refuse(const struct span *s) {
    return -EINVAL;
}

static const struct packing {
    const char *name;
    uint8_t magic[6];
    uint8_t magic_size;
    int (*unpack)(const struct span *s);
} packings[] = {
    {"gzip", {0x1f, 0x8b}, 2, unpack_gzip},
    {"xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, unpack_xz},
    {"lzma", {0x5d, 0, 0}, 3, unpack_xz},
    {"lz4", {0x02, 0x21, 0x4c, 0x18}, 4, unpack_lz4},
    {"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, unpack_zstd},
    {"none", {0x7f, 'E', 'L', 'F'}, 4, unpack_none},
    {"bzip2", {'B', 'Z', 'h'}, 3, refuse},
    {"lzo", {0x89, 'L', 'Z', 'O'}, 4, refuse},
};

static const struct packing *find_packing(const uint8_t *in, size_t size) {
    for (size_t i = 0; i < sizeof(packings) / sizeof(packings[0]); i++)
        if (size >= packings[i].magic_size &&
            memcmp(in, packings[i].magic, packings[i].magic_size) == 0)
            return &packings[i];
    return NULL;
}

static const struct packing *packing_of(const struct payload *p) {
    return p->in_size >= 16 ? find_packing(p->in, p->in_size) : NULL;
}

int unpack_look(struct payload *p, uint64_t max, struct err *e) {
    const struct packing *how = packing_of(p);
    char text[2][SIZE_TEXT_MAX];
    if (!how)
        return err_set(e, -EINVAL, "%s: the packed kernel in it has no known magic",
                       p->name);
    if (how->unpack == refuse)
        return err_set(e, -EINVAL,
                       "%s: packed with %s, which is not supported (gzip, xz, lzma, lz4 "
                       "and zstd are)",
                       p->name, how->name);
    p->size = how->unpack == unpack_none ? p->in_size : le32(p->in + p->in_size - 4);
    if (p->size > max)
        return err_set(e, -EINVAL,
                       "%s: the kernel does not fit: %s unpacked, and at most %s is "
                       "possible",
                       p->name, size_text(p->size, text[0]), size_text(max, text[1]));
    return 0;
}

int unpack_to(const struct payload *p, uint8_t *out, struct err *e) {
    const struct packing *how = packing_of(p);
    struct span s = {.in = p->in, .in_size = p->in_size, .out = out, .out_size = p->size};
    if (how->unpack != unpack_none && how->unpack != unpack_gzip)
        s.in_size -= 4;
    int rc = how->unpack(&s);
    return rc ? err_set(e, rc, "%s: the %s-packed kernel in it is damaged", p->name,
                        how->name)
              : 0;
}

int unpack_payload(struct payload *p, uint64_t max, uint8_t **out, struct err *e) {
    int rc = unpack_look(p, max, e);
    if (rc)
        return rc;
    *out = pages_alloc(p->size);
    if (!*out)
        return err_set(e, -ENOMEM, "%s: out of memory to unpack it", p->name);
    rc = unpack_to(p, *out, e);
    if (rc)
        free(*out);
    return rc;
}
