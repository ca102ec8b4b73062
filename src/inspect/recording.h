/* SPDX-License-Identifier: MIT */
/*
 * Recordings: what was done to an MMU (penumbra/record.h), in a file, for `penumbra replay`.
 *
 * A file is written and read from front to back, so that it may be a pipe: struct
 * recording_header; the MMU's options, a line "name=value" each; the TLB model; blocks,
 * each a struct recording_block and an LZ4 block, which holds whole operations; a block
 * of 0 operations, and the end: the counters of the run, a line "name value" each. A file
 * without it is incomplete.
 *
 * An operation is a byte and numbers (recording_codec.h). 0x80 | how: an access; how far its page is from that of
 * the last access of the same kind, zigzag (where in the page it is no MMU asks). 0x60 | mode:
 * a fetch that a TLB model is told of; its page in the same way. 0x70: a vcpu_write of 8 bytes,
 * most of which are entries of tables; how far its gpa is from the last one's, zigzag; the
 * bytes. 0x71: memory, a page of it: gpa; a bit for each of its 512 words that is not 0; these. 0x7e: so many ns have passed, zigzag: there is one for every RECORDING_TICK at least
 * in which something was done. 0x7f: the following ones are of the vCPU whose number follows.
 * Both stand before an operation, in this order. Else enum pn_op_kind; its words, as many as record_ops.inc says;
 * the size of its data, and these.
 */
#pragma once

#include <stdio.h>

#include "base/err.h"
#include "penumbra/mmu.h"

#define RECORDING_MAGIC   "PNRECRD\n"
#define RECORDING_VERSION 4u
#define RECORDING_BLOCK   (256u << 10) /* bytes of operations in a block at most */
#define RECORDING_VCPUS   256u
#define RECORDING_TICK    1000u /* ns: times are told no closer */

/* Little-endian. */
struct recording_header {
    char magic[8];
    uint32_t version;
    uint32_t text_size; /* of the options */
    uint32_t tlb_size;  /* sizeof(struct pn_tlb_model), or 0: there was none */
    uint32_t kind;      /* enum pn_mmu_kind */
    uint32_t tracker;   /* enum pn_dirty_tracker */
    uint32_t maxphyaddr;
    uint32_t lacks; /* PN_MMU_NO_* */
    uint32_t reserved[7];
};

struct recording_block {
    uint32_t plain; /* bytes of operations; 0: the end follows */
    uint32_t size;  /* bytes that follow: an LZ4 block, or the end */
    uint64_t check; /* XXH3-64 of these */
};

/* ---- Writing ---- */

struct recording_writer;
/* The file gets its name in recording_close (base/outfile.h). Return: 0, or -errno with a
 * line in e. */
int recording_open(const char *path, struct recording_writer **out, struct err *e);
/* Whose time is told: ns, as in traces. Without a clock there are no times in the file. */
void recording_clock(struct recording_writer *w, uint64_t (*now)(void *opaque),
                     void *opaque);
/* What an MMU is created with, one alone. */
const struct pn_recorder *recording_recorder(const struct recording_writer *w);
/* Nothing is recorded any more. total: the run's counters, for the end of the file. */
void recording_stop(struct recording_writer *w, const struct pn_stats *total);
/* Finish and free. Return: 0, or -errno with a line in e: the file is removed. */
int recording_close(struct recording_writer *w, struct err *e);
/* Give up: remove what was written. NULL: nothing. */
void recording_abandon(struct recording_writer *w);

/* ---- Reading; nothing in a file is trusted ---- */

struct recording;
enum recording_state {
    RECORDING_OPEN,       /* there may be more operations */
    RECORDING_WHOLE,      /* as it was written */
    RECORDING_INCOMPLETE, /* it ends early: the run was killed, or goes on */
    RECORDING_DAMAGED     /* what follows is not what was written */
};
/* path "-": stdin. Return: 0, or -errno with a line in e: -EINVAL: not a recording, or of
 * another version; -EBADMSG: damaged or cut before its first operation. */
int recording_file_open(const char *path, struct recording **out, struct err *e);
/* The same from memory that outlives it (tests, fuzzing). */
int recording_parse(const void *data, size_t size, struct recording **out, struct err *e);
void recording_free(struct recording *r);
/* The MMU that was recorded; valid as long as r. Its options are in their ranges. */
const struct pn_mmu_config *recording_config(const struct recording *r);
/* The next operation; its data is valid until the next call. Members that its kind does not have are
 * left as they were. Return: false: no more, and the state says why. */
bool recording_next(struct recording *r, struct pn_op *op);
/* Before the first operation: the recording ends before the first time behind this one. */
void recording_until(struct recording *r, uint64_t time);
/* The last time that was told, 0 if none was. *stopped: a later one was. */
uint64_t recording_time(const struct recording *r, bool *stopped);
enum recording_state recording_state(const struct recording *r);
uint64_t recording_ops(const struct recording *r); /* read so far */
/* Of a whole file: what the run counted. known[i]: the file has that counter. */
const struct pn_stats *recording_total(const struct recording *r, const bool **known);
const char *pn_op_name(enum pn_op_kind kind);
