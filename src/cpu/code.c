/* SPDX-License-Identifier: MIT */
/*
 * The memory of translated code: one file, mapped twice, never writable and executable at one
 * place; and that of a copy of the process, which has to be its own.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu/lower.h"
#include "cpu/xlat.h"

/* ---- Life ---- */

static int code_file(const struct xlat *x) {
    int fd = memfd_create("penumbra-code", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)x->size)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* perf asks its map for names in mappings without a file, and in those of /dev/zero: shared memory
 * without a name counts as such, and can be mapped a second time. */
static int code_create_for_perf(struct xlat *x) {
    x->rw =
        mmap(NULL, x->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    x->rx = x->rw == MAP_FAILED ? MAP_FAILED : mremap(x->rw, 0, x->size, MREMAP_MAYMOVE);
    return x->rx == MAP_FAILED || mprotect(x->rx, x->size, PROT_READ | PROT_EXEC) ? -1
                                                                                  : 0;
}

int code_create(struct xlat *x) {
    if (x->for_perf)
        return code_create_for_perf(x);
    x->fd = code_file(x);
    if (x->fd < 0)
        return -1;
    x->rw = mmap(NULL, x->size, PROT_READ | PROT_WRITE, MAP_SHARED, x->fd, 0);
    x->rx = mmap(NULL, x->size, PROT_READ | PROT_EXEC, MAP_SHARED, x->fd, 0);
    return x->rw == MAP_FAILED || x->rx == MAP_FAILED ? -1 : 0;
}

/* ---- After a fork ---- */

/* Code is read for less than it is written: most of it is as it should be. */
static void repair(struct xlat *x, uint32_t at, const void *code, size_t size) {
    if (memcmp(x->rw + at, code, size))
        memcpy(x->rw + at, code, size);
}

/* What has changed of a block's code since the fork, by what is known here (invariant 1 of
 * xlat.h). */
static void block_repair(struct xlat *x, const struct block *b) {
    uint8_t head[16], jump[5] = {0xe9};
    struct block_head look = block_head(b);
    struct emit e = {head};
    int32_t by = (int32_t)(block_dead_stub(b) - (b->code + sizeof(jump)));
    memcpy(jump + 1, &by, sizeof(by));
    emit_budget(&e, b->n);
    repair(x, b->code - (uint32_t)sizeof(look), &look, sizeof(look));
    if (b->dead || b->trap)
        repair(x, b->code, jump, sizeof(jump));
    else
        repair(x, b->code, head, (size_t)(e.p - head));
    for (uint32_t i = b->exits; i < b->exits + b->exit_count; i++) {
        const struct block_exit *ex = &x->exits[i];
        uint32_t to = ex->to == NO_BLOCK ? exit_stub(x, ex) : x->blocks[ex->to].code;
        by = (int32_t)(to - (ex->patch + 4));
        if (ex->patch)
            repair(x, ex->patch, &by, sizeof(by));
    }
}

/* Both views are of the file from now on. */
static int code_move(struct xlat *x, int fd) {
    int how = MAP_SHARED | MAP_FIXED;
    size_t cold = x->cold - x->cold_start;
    if (pwrite(fd, x->rw, x->used, 0) != (ssize_t)x->used ||
        pwrite(fd, x->rw + x->cold_start, cold, (off_t)x->cold_start) != (ssize_t)cold)
        return -ENOMEM;
    if (mmap(x->rw, x->size, PROT_READ | PROT_WRITE, how, fd, 0) == MAP_FAILED ||
        mmap(x->rx, x->size, PROT_READ | PROT_EXEC, how, fd, 0) == MAP_FAILED)
        return -errno;
    x->fd = fd;
    return 0;
}

int cpu_own_code(struct cpu *cpu) {
    struct xlat *x = cpu->xlat;
    uint32_t epoch;
    memcpy(&epoch, x->rw, sizeof(epoch));
    int fd = code_file(x);
    int rc = fd < 0 ? -ENOMEM : code_move(x, fd);
    if (rc)
        return rc;
    bounces_forget(x); /* the other process may have put others there */
    if (epoch != x->epoch)
        x->flush = true; /* the other process has begun anew */
    for (uint32_t i = 0; epoch == x->epoch && i < x->block_count; i++)
        block_repair(x, &x->blocks[i]);
    return 0;
}
