/* SPDX-License-Identifier: MIT */
/*
 * A recording is read: from front to back, a block at a time. Nothing in it is trusted.
 *
 * Invariant: what recording_next gives was in a block whose checksum is right, has at most
 * PN_OP_DATA bytes of data, and a vCPU below RECORDING_VCPUS.
 * No locks: a recording is read by one thread.
 */
#include "inspect/recording.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "inspect/recording_read.h"

#define TEXT_MAX 4096u

_Static_assert(sizeof(struct recording_header) == 64, "as in the file");

const char *pn_op_name(enum pn_op_kind kind) {
    static const char *const names[] = {
#define PN_OP(name, words, doc) #name,
#include "penumbra/record_ops.inc"
    };
    return names[kind];
}

/* ---- The head ---- */

static int damaged(struct err *e, const char *why) {
    return err_set(e, -EBADMSG, "damaged recording: %s", why);
}

/* Every option is there by its default, and by the file's lines. */
static int read_options(struct recording *r, uint32_t size, struct err *e) {
    char text[TEXT_MAX + 1];
    if (size > TEXT_MAX || fread(text, 1, size, r->in) != size)
        return damaged(e, "its options");
    text[size] = 0;
    pn_mmu_options_default(&r->config.opt);
    for (char *line = text, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        if (!end)
            return damaged(e, "its options");
        *end = 0;
        int rc = pn_mmu_option_set(&r->config.opt, line);
        if (rc == -ENOENT)
            return err_set(e, -EINVAL, "of another penumbra: its MMU has an option '%s'",
                           line);
        if (rc)
            return damaged(e, "its options");
    }
    return 0;
}

static int read_tlb(struct recording *r, uint32_t size, struct err *e) {
    if (!size)
        return 0;
    if (size != sizeof(r->tlb))
        return err_set(e, -EINVAL, "of another penumbra, whose TLB models are others");
    if (fread(&r->tlb, sizeof(r->tlb), 1, r->in) != 1)
        return damaged(e, "its TLB model");
    const uint8_t *bytes = (const void *)&r->tlb;
    if (bytes[offsetof(struct pn_tlb_model, pcid)] > 1 ||
        bytes[offsetof(struct pn_tlb_model, vpid)] > 1)
        return damaged(e, "its TLB model");
    r->tlb.name[sizeof(r->tlb.name) - 1] = 0;
    r->config.tlb = &r->tlb;
    return 0;
}

static int read_start(struct recording *r, struct err *e) {
    struct recording_header h;
    size_t got = fread(&h, 1, sizeof(h), r->in);
    if (got < sizeof(h) && ferror(r->in)) {
        int rc = errno ? -errno : -EIO;
        return err_set(e, rc, "%s", strerror(-rc));
    }
    if (got < sizeof(h.magic) || memcmp(h.magic, RECORDING_MAGIC, sizeof(h.magic)) != 0)
        return err_set(e, -EINVAL, "no recording of penumbra run --record");
    if (got < sizeof(h))
        return damaged(e, "it ends in its header");
    if (h.version != RECORDING_VERSION)
        return err_set(e, -EINVAL,
                       "a recording of version %" PRIu32
                       ": this penumbra reads version %u alone",
                       h.version, RECORDING_VERSION);
    if (h.kind > PN_MMU_TDP || h.tracker >= PN_TRACKERS || h.maxphyaddr < 36 ||
        h.maxphyaddr > 52 || h.lacks > UINT8_MAX)
        return damaged(e, "its header");
    r->config.kind = (enum pn_mmu_kind)h.kind;
    r->config.tracker = (enum pn_dirty_tracker)h.tracker;
    r->config.maxphyaddr = (uint8_t)h.maxphyaddr;
    r->config.lacks = (uint8_t)h.lacks;
    r->frame = malloc(FRAME_MAX + 1);
    if (!r->frame)
        return -ENOMEM;
    int rc = read_options(r, h.text_size, e);
    return rc ? rc : read_tlb(r, h.tlb_size, e);
}

/* Take over `in`. */
static int start(FILE *in, struct recording **out, struct err *e) {
    struct recording *r = calloc(1, sizeof(*r));
    if (!r)
        fclose(in);
    else
        *r = (struct recording){.in = in, .until = UINT64_MAX};
    int rc = r ? read_start(r, e) : -ENOMEM;
    if (rc == -ENOMEM)
        err_set(e, rc, "out of memory");
    if (rc)
        recording_free(r);
    else
        *out = r;
    return rc;
}

int recording_parse(const void *data, size_t size, struct recording **out,
                    struct err *e) {
    if (!size)
        return err_set(e, -EINVAL, "no recording of penumbra run --record");
    FILE *in = fmemopen((void *)(uintptr_t)data, size, "rb");
    return in ? start(in, out, e) : err_set(e, -ENOMEM, "out of memory");
}

int recording_file_open(const char *path, struct recording **out, struct err *e) {
    char text[160] = "";
    struct err why = {text, sizeof(text)};
    FILE *in = strcmp(path, "-") ? fopen(path, "rbe") : fdopen(dup(STDIN_FILENO), "rb");
    if (!in)
        return err_sys(e, -errno, "%s", path);
    int rc = start(in, out, &why);
    return rc ? err_set(e, rc, "%s: %s", path, text) : 0;
}

void recording_free(struct recording *r) {
    if (!r)
        return;
    fclose(r->in);
    free(r->frame);
    free(r);
}

const struct pn_mmu_config *recording_config(const struct recording *r) {
    return &r->config;
}
enum recording_state recording_state(const struct recording *r) {
    return r->state;
}
void recording_until(struct recording *r, uint64_t time) {
    r->until = time;
}
uint64_t recording_time(const struct recording *r, bool *stopped) {
    *stopped = r->stopped;
    return r->last.time;
}
uint64_t recording_ops(const struct recording *r) {
    return r->ops;
}
const struct pn_stats *recording_total(const struct recording *r, const bool **known) {
    *known = r->known;
    return &r->total;
}

/* ---- Blocks ---- */

/* One line "name value" of the end. Return: it is one. */
static bool read_counter(struct recording *r, const char *line, uint64_t *ops) {
    const char *blank = strchr(line, ' ');
    char *end;
    if (!blank)
        return false;
    uint64_t value = strtoull(blank + 1, &end, 10);
    size_t n = (size_t)(blank - line);
    if (*end)
        return false;
    if (n == 3 && !memcmp(line, "ops", 3))
        *ops = value;
    for (unsigned i = 0; i < PN_STAT_COUNT; i++) {
        const char *name = pn_stat_name((enum pn_stat)i);
        if (strlen(name) != n || memcmp(name, line, n) != 0)
            continue;
        r->total.v[i] = value;
        r->known[i] = true;
    }
    return true;
}

/* Is the file what its writer says? */
static enum recording_state read_end(struct recording *r, uint32_t size) {
    uint64_t ops = 0;
    if (size >= END_MAX || fgetc(r->in) != EOF)
        return RECORDING_DAMAGED;
    r->frame[size] = 0;
    for (char *line = (char *)r->frame, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        if (!end)
            return RECORDING_DAMAGED;
        *end = 0;
        if (!read_counter(r, line, &ops))
            return RECORDING_DAMAGED;
    }
    return ops == r->ops ? RECORDING_WHOLE : RECORDING_DAMAGED;
}

static enum recording_state read_block(struct recording *r) {
    struct recording_block b;
    if (fread(&b, sizeof(b), 1, r->in) != 1)
        return RECORDING_INCOMPLETE;
    if (b.plain > RECORDING_BLOCK || !b.size || b.size > FRAME_MAX)
        return RECORDING_DAMAGED;
    if (fread(r->frame, 1, b.size, r->in) != b.size)
        return RECORDING_INCOMPLETE;
    if (b.check != XXH3_64bits(r->frame, b.size))
        return RECORDING_DAMAGED;
    if (!b.plain)
        return read_end(r, b.size);
    if (LZ4_decompress_safe((const char *)r->frame, (char *)r->plain, (int)b.size,
                            RECORDING_BLOCK) != (int)b.plain)
        return RECORDING_DAMAGED;
    r->at = r->plain;
    r->end = r->plain + b.plain;
    return RECORDING_OPEN;
}

/* ---- Operations ---- */

static const uint8_t *get_other(const uint8_t *p, const uint8_t *end, uint8_t kind,
                                struct pn_op *op) {
    uint64_t size = 0;
    if (kind >= PN_OP_COUNT || kind == PN_OP_access)
        return NULL;
    op->kind = (enum pn_op_kind)kind;
    for (unsigned i = 0; i < op_words[kind]; i++)
        p = get_number(p, &op->w[i]);
    p = get_number(p, &size);
    if (p > end || size > PN_OP_DATA || size > (size_t)(end - p))
        return NULL;
    op->size = (uint32_t)size;
    op->data = p;
    return p + size;
}

/* The page is put together in r->page. */
static const uint8_t *get_whole_page(struct recording *r, const uint8_t *p,
                                     const uint8_t *end, struct pn_op *op) {
    uint64_t used[PAGE_GROUPS], *word = r->page;
    size_t words = 0;
    p = get_number(p, &op->w[0]);
    memcpy(used, p, sizeof(used));
    p += sizeof(used);
    for (unsigned g = 0; g < PAGE_GROUPS; g++)
        words += (unsigned)__builtin_popcountll(used[g]);
    if (p > end || words * sizeof(*word) > (size_t)(end - p))
        return NULL;
    memset(word, 0, PN_PAGE_SIZE);
    for (unsigned g = 0; g < PAGE_GROUPS; g++, word += 64)
        for (uint64_t left = used[g]; left; left &= left - 1, p += sizeof(*word))
            word[__builtin_ctzll(left)] = get_8(p);
    op->kind = PN_OP_memory;
    op->size = PN_PAGE_SIZE;
    op->data = r->page;
    return p;
}

const uint8_t *recording_other(struct recording *r, uint8_t head, const uint8_t *p,
                               const uint8_t *end, struct pn_op *op) {
    return head == OP_PAGE ? get_whole_page(r, p, end, op) : get_other(p, end, head, op);
}

/* Return: behind it; at r->until the end of the block; NULL: it is damaged. */
static const uint8_t *get_time(struct recording *r, const uint8_t *p,
                               const uint8_t *end) {
    uint64_t v;
    p = get_number(p, &v);
    if (p > end)
        return NULL;
    v = r->last.time + unzigzag(v);
    r->stopped = v > r->until;
    if (r->stopped)
        return end;
    r->last.time = v;
    return p;
}

const uint8_t *recording_before(struct recording *r, uint8_t head, const uint8_t *p,
                                const uint8_t *end) {
    uint64_t v;
    if (head == OP_TIME)
        return get_time(r, p, end);
    p = get_number(p, &v);
    if (v >= RECORDING_VCPUS || p >= end)
        return NULL;
    r->vcpu = (uint16_t)v;
    return p;
}

bool recording_more(struct recording *r) {
    while (r->at == r->end) {
        if (r->state == RECORDING_OPEN && !r->stopped)
            r->state = read_block(r);
        if (r->state != RECORDING_OPEN || r->stopped)
            return false;
    }
    return true;
}

bool recording_next(struct recording *r, struct pn_op *op) {
    return recording_take(r, op);
}
