/* SPDX-License-Identifier: MIT */
/*
 * A recording is written: operations into a block, a full block as an LZ4 block into the
 * file.
 *
 * Invariants
 * 1. A block holds whole operations, and has room for the longest one.
 * 2. After the first failed write nothing is recorded: the file is not kept.
 * Locking: none; the thread that runs the vCPUs owns the writer.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <lz4.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/outfile.h"
#include "inspect/recording_codec.h"

struct recording_writer {
    struct outfile file;
    struct pn_recorder recorder;
    int failed; /* -errno of the first failure */
    bool on;
    uint16_t vcpu;
    struct op_last last;
    uint64_t (*now)(void *opaque); /* NULL: no times */
    void *clock;
    uint64_t ops;
    struct pn_stats total;
    uint32_t used;
    uint8_t *frame; /* struct recording_block and what follows */
    uint8_t plain[RECORDING_BLOCK];
};

static void put(struct recording_writer *w, const void *data, size_t size) {
    if (!w->failed)
        w->failed = file_write(w->file.fd, data, size);
}

static void put_frame(struct recording_writer *w, uint32_t plain, size_t size) {
    const struct recording_block b = {plain, (uint32_t)size,
                                      XXH3_64bits(w->frame + sizeof(b), size)};
    memcpy(w->frame, &b, sizeof(b));
    put(w, w->frame, sizeof(b) + size);
}

static void put_block(struct recording_writer *w) {
    if (!w->used)
        return;
    int size = LZ4_compress_default((const char *)w->plain,
                                    (char *)w->frame + sizeof(struct recording_block),
                                    (int)w->used, LZ4_COMPRESSBOUND(RECORDING_BLOCK));
    put_frame(w, w->used, (size_t)size);
    w->used = 0;
}

/* ---- What the MMU tells ---- */

static uint8_t *put_distance(uint8_t *p, uint64_t *last, uint64_t v) {
    uint64_t from = *last;
    *last = v;
    return put_number(p, zigzag(v - from));
}

static uint8_t *put_other(uint8_t *p, const struct pn_op *op) {
    *p++ = (uint8_t)op->kind;
    for (unsigned i = 0; i < op_words[op->kind]; i++)
        p = put_number(p, op->w[i]);
    p = put_number(p, op->size);
    if (op->size)
        memcpy(p, op->data, op->size);
    return p + op->size;
}

/* A table is empty in the main. p: room for all of it. */
static uint8_t *put_page(uint8_t *p, const uint8_t *data) {
    uint64_t used[PAGE_GROUPS] = {0};
    uint8_t *word = p + sizeof(used);
    for (unsigned i = 0; i < PAGE_WORDS; i++) {
        uint64_t v;
        memcpy(&v, data + i * sizeof(v), sizeof(v));
        memcpy(word, &v, sizeof(v));
        used[i / 64] |= (uint64_t)(v != 0) << i % 64;
        word += v ? sizeof(v) : 0;
    }
    memcpy(p, used, sizeof(used));
    return word;
}

/* A turn of another vCPU may begin a little earlier. */
static uint8_t *put_time(struct recording_writer *w, uint8_t *p) {
    uint64_t now = w->now ? w->now(w->clock) : 0;
    if (now < w->last.time + RECORDING_TICK)
        return p;
    *p++ = OP_TIME;
    return put_distance(p, &w->last.time, now);
}

static void recorded(void *opaque, const struct pn_op *op) {
    struct recording_writer *w = opaque;
    if (!w->on || w->failed)
        return;
    if (sizeof(w->plain) - w->used < OP_SIZE_MAX)
        put_block(w);
    uint8_t *p = put_time(w, w->plain + w->used);
    if (op->vcpu != w->vcpu) {
        *p++ = OP_VCPU;
        p = put_number(p, w->vcpu = op->vcpu);
    }
    if (op->kind == PN_OP_access) {
        *p++ = (uint8_t)(OP_ACCESS | op->how);
        p = put_distance(p, &w->last.access[op->how & PN_OP_ACCESS],
                         op->w[0] >> PN_PAGE_SHIFT);
    } else if (op->kind == PN_OP_fetched) {
        *p++ = (uint8_t)(OP_FETCHED | op->w[1]);
        p = put_distance(p, &w->last.fetched, op->w[0] >> PN_PAGE_SHIFT);
    } else if (op->kind == PN_OP_vcpu_write && op->size == sizeof(uint64_t)) {
        *p++ = OP_WRITE8;
        p = put_distance(p, &w->last.write, op->w[0]);
        p = mempcpy(p, op->data, sizeof(uint64_t));
    } else if (op->kind == PN_OP_memory && op->size == PN_PAGE_SIZE) {
        *p++ = OP_PAGE;
        p = put_page(put_number(p, op->w[0]), op->data);
    } else {
        p = put_other(p, op);
    }
    w->used = (uint32_t)(p - w->plain);
    w->ops++;
}

/* Every option by its name, and by its word where it has some. Return: bytes. */
static size_t options_text(const struct pn_mmu_options *opt, char *buf, size_t size) {
    const char *name;
    uint32_t value;
    size_t n = 0;
    for (unsigned i = 0; (name = pn_mmu_option_at(i, opt, &value)) && n < size; i++) {
        const char *word = pn_mmu_option_word(i, value);
        n +=
            (size_t)(word ? snprintf(buf + n, size - n, "%s=%s\n", name, word)
                          : snprintf(buf + n, size - n, "%s=%" PRIu32 "\n", name, value));
    }
    return n;
}

static void created(void *opaque, const struct pn_mmu_config *cfg) {
    struct recording_writer *w = opaque;
    char text[1024];
    struct recording_header h = {
        .version = RECORDING_VERSION,
        .text_size = (uint32_t)options_text(&cfg->opt, text, sizeof(text)),
        .tlb_size = cfg->tlb ? sizeof(*cfg->tlb) : 0,
        .kind = cfg->kind,
        .tracker = cfg->tracker,
        .maxphyaddr = cfg->maxphyaddr,
        .lacks = cfg->lacks,
    };
    memcpy(h.magic, RECORDING_MAGIC, sizeof(h.magic));
    put(w, &h, sizeof(h));
    put(w, text, h.text_size);
    if (cfg->tlb)
        put(w, cfg->tlb, sizeof(*cfg->tlb));
    w->on = true;
}

/* ---- Life ---- */

static void free_writer(struct recording_writer *w) {
    outfile_abandon(&w->file);
    free(w->frame);
    free(w);
}

int recording_open(const char *path, struct recording_writer **out, struct err *e) {
    struct recording_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(e, -ENOMEM, "recording: out of memory");
    w->file.fd = -1;
    w->recorder = (struct pn_recorder){created, recorded, w};
    w->frame = malloc(sizeof(struct recording_block) + FRAME_MAX);
    int rc = w->frame ? outfile_open(&w->file, path) : -ENOMEM;
    if (rc) {
        free_writer(w);
        return err_sys(e, rc, "cannot write %s", path);
    }
    *out = w;
    return 0;
}

void recording_clock(struct recording_writer *w, uint64_t (*now)(void *opaque),
                     void *opaque) {
    w->now = now;
    w->clock = opaque;
}

const struct pn_recorder *recording_recorder(const struct recording_writer *w) {
    return &w->recorder;
}

void recording_stop(struct recording_writer *w, const struct pn_stats *total) {
    w->on = false;
    w->total = *total;
}

static void put_end(struct recording_writer *w) {
    char *text = (char *)w->frame + sizeof(struct recording_block);
    size_t n = (size_t)snprintf(text, END_MAX, "ops %" PRIu64 "\n", w->ops);
    for (unsigned i = 0; i < PN_STAT_COUNT && n < END_MAX; i++)
        n += (size_t)snprintf(text + n, END_MAX - n, "%s %" PRIu64 "\n",
                              pn_stat_name((enum pn_stat)i), w->total.v[i]);
    if (n >= END_MAX)
        w->failed = -EIO;
    else
        put_frame(w, 0, n);
}

int recording_close(struct recording_writer *w, struct err *e) {
    put_block(w);
    put_end(w);
    int rc = w->failed ? w->failed : outfile_commit(&w->file);
    free_writer(w);
    return rc ? err_sys(e, rc, "cannot write the recording") : 0;
}

void recording_abandon(struct recording_writer *w) {
    if (w)
        free_writer(w);
}
