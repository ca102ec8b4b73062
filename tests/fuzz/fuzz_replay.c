/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes recordings: whatever the file holds, it is refused with a line of text, or its
 * operations are done to an MMU of either kind, which holds its invariants.
 *
 * Byte 0 chooses: the rest is the file; or it is dressed as one, so that random bytes reach
 * the operations. Bit 1: into the other kind of MMU. Bit 2: the MMU audits itself.
 */
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "inspect/recording_codec.h"
#include "inspect/replay.h"

#define MEMORY_MAX ((uint64_t)16 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A good header, a vCPU, two memslots, and the bytes as one block. Return: the size. */
static size_t dress(unsigned char *file, size_t room, const uint8_t *data, size_t size) {
    /* Slot 0, 1 MiB at 0; slot 1, read only, two pages at 8 MiB; the vCPU. */
    static const struct {
        uint8_t kind, numbers;
        uint64_t number[6]; /* words, and the size of data */
    } first[] = {{PN_OP_slot, 6, {0, 0, 0, 1 << 20}},
                 {PN_OP_slot, 6, {1, PN_SLOT_READONLY, 8 << 20, 8192}},
                 {PN_OP_vcpu, 1, {0}}};
    struct recording_header h = {
        .version = RECORDING_VERSION, .maxphyaddr = 40, .kind = data[0] >> 3 & 1};
    uint8_t plain[4096 + sizeof(first)], *p = plain;
    if (size > 4096)
        size = 4096;
    memcpy(h.magic, RECORDING_MAGIC, sizeof(h.magic));
    memcpy(file, &h, sizeof(h));
    for (size_t op = 0; op < 3; op++) {
        *p++ = first[op].kind;
        for (unsigned i = 0; i < first[op].numbers; i++)
            p = put_number(p, first[op].number[i]);
    }
    memcpy(p, data, size);
    struct recording_block b = {.plain = (uint32_t)(p - plain + (ptrdiff_t)size)};
    size_t at = sizeof(h) + sizeof(b);
    b.size = (uint32_t)LZ4_compress_default((const char *)plain, (char *)file + at,
                                            (int)b.plain, (int)(room - at));
    b.check = XXH3_64bits(file + at, b.size);
    memcpy(file + sizeof(h), &b, sizeof(b));
    return at + b.size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    size_t room = 16384, total = size - 1;
    unsigned char *file = malloc(room > total ? room : total);
    if (!file)
        abort();
    if (data[0] & 1)
        total = dress(file, room, data + 1, size - 1);
    else
        memcpy(file, data + 1, total);
    struct recording *r = NULL;
    struct replay_result result;
    if (recording_parse(file, total, &r, &e) == 0) {
        struct pn_mmu_config cfg = *recording_config(r);
        if (data[0] & 2) {
            cfg.kind = cfg.kind == PN_MMU_TDP ? PN_MMU_SHADOW : PN_MMU_TDP;
            cfg.tracker = PN_TRACKER_WP;
        }
        cfg.opt.audit = data[0] >> 2 & 1;
        if (replay_run(r, &cfg, MEMORY_MAX, &result, &e)) {
            if (!text[0])
                abort();
        } else if (recording_state(r) == RECORDING_OPEN) {
            abort();
        }
        recording_free(r);
    } else if (!text[0] || r) {
        abort();
    }
    free(file);
    return 0;
}
