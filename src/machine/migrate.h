/* SPDX-License-Identifier: MIT */
/*
 * Live migration: a guest goes on in another penumbra process, under the same MMU or another.
 *
 * Pre-copy: all pages are sent while the guest runs, then those that it wrote meanwhile, round
 * by round, until the rest can be sent within the downtime that is allowed; the guest stands
 * for the rest and its state. Post-copy: it goes on over there before its memory has come.
 *
 * Invariants
 * 1. The guest runs in one process: the destination begins when the source has given it up,
 *    and the source goes on where the destination has not begun. Only where the peer falls
 *    silent between the two does the guest stand, and a person has to say.
 * 2. Whatever fails before, the guest goes on at the source as if nothing had been: it is a
 *    consumer of the dirty log of its own, or has a log of its own.
 * 3. What comes from the other side is hostile: any bytes are safe.
 * 4. To be moved changes nothing in the guest.
 */
#pragma once

#include "machine/machine.h"

enum migrate_compression { MIGRATE_PLAIN, MIGRATE_LZ4, MIGRATE_ZSTD };
/* Return: "none", "lz4"...; NULL beyond the last. */
const char *migrate_compression_name(unsigned i);

#define MIGRATE_STREAMS_MAX 16u
#define MIGRATE_STALL_NS    10000000000u

struct migrate_options {
    unsigned streams;     /* from 1 to MIGRATE_STREAMS_MAX */
    uint64_t downtime_ns; /* the guest may stand so long, by what was measured so far */
    enum migrate_compression compression;
    bool throttle; /* let the guest stand now and then where it writes too fast */
    bool
        postcopy; /* go on there without all memory: after the first round, or where throttle
                      does not do */
    bool verify;       /* look at every page once more before the guest is given up */
    uint64_t stall_ns; /* so long may the peer be silent */
    const char *tls;   /* a folder (base/wire.h), or NULL */
};
/* 1 stream, 300 ms, plain. */
void migrate_options_default(struct migrate_options *o);

enum migrate_phase {
    MIGRATE_NONE, /* none was asked for */
    MIGRATE_CONNECTS,
    MIGRATE_COPIES,
    MIGRATE_STOPPED, /* the guest stands for the last of it */
    MIGRATE_FOLLOWS, /* it runs over there; pages follow */
    MIGRATE_FAILED,
    MIGRATE_MOVED,
    MIGRATE_UNSURE /* nobody knows whether it runs over there */
};
const char *migrate_phase_name(enum migrate_phase p);

/* A migration so far. */
struct migrate_progress {
    enum migrate_phase phase;
    unsigned rounds, throttle; /* throttle: percent of the time that the guest stands */
    uint64_t pages, zeros;     /* sent */
    uint64_t free;             /* not sent, for the guest said that they are free */
    uint64_t dirty;            /* yet to be sent, as of the last harvest */
    uint64_t bytes;            /* on the wires */
    uint64_t total_ns, downtime_ns;
    char line[400]; /* FAILED, UNSURE: why */
};

/* ---- The source ---- */

/* Begin. The machine stands; it goes on meanwhile, and whoever runs it calls what follows.
 * Return: 0, or -errno with a line in e: -EBUSY: one is on its way; -EINVAL; -ENOTSUP: a
 * machine with a history, or with devices that cannot be moved. */
int machine_migrate(struct machine *m, const char *to, const struct migrate_options *o,
                    struct err *e);
/* Make it fail, if it has not gone too far. Return: 0, or -EINVAL with a line in e. */
int machine_migrate_cancel(struct machine *m, struct err *e);
struct migrate_progress machine_migrate_progress(const struct machine *m);

/* While the machine runs: is it to stand for a migration (as machine_config.attend)? What to
 * poll for it, or -1. */
bool machine_migrate_asks(struct machine *m);
int machine_migrate_fd(const struct machine *m);
/* While the machine stands: do what is asked for. Return: whether it has to stand on: then
 * wait, and call again. */
bool machine_migrate_serve(struct machine *m);
void machine_migrate_wait(struct machine *m, uint64_t ns);
/* Does it stand because its state is on its way? Then it must not be changed. */
bool machine_migrate_holds(const struct machine *m);
/* The guest says that so many pages of RAM, from that one on, are free: they are left out until it
 * writes to them. */
void machine_migrate_free(struct machine *m, uint64_t page, uint64_t count);
/* Before the machine goes. */
void machine_migrate_end(struct machine *m);
/* Has one ended since the last call? Then *p says how. */
bool machine_migrate_ended(struct machine *m, struct migrate_progress *p);

/* ---- The destination ---- */

struct migrate_in;

struct migrate_in_options {
    const char *at;  /* "unix:PATH", "tcp:HOST:PORT" */
    const char *tls; /* a folder, or NULL */
    uint64_t stall_ns;
    /* A page will never come, of a guest that runs without it, or (not ours) is still the
     * source's: must not return. */
    void (*lost)(void *opaque, bool ours, const char *line);
    void *opaque;
};

/* Wait for a source, for as long as it takes, and take what machine it has into cfg, whose
 * texts are in *out then. Return: 0, or -errno with a line in e: -EINVAL: of another version;
 * -EBADMSG: what the peer says is damaged, or lies. */
int migrate_in_open(const struct migrate_in_options *o, struct machine_config *cfg,
                    struct migrate_in **out, struct err *e);
/* Memory and state. cfg: as migrate_in_open left it, with what the caller adds; cfg->restore
 * is then set, for machine_create. Return: as before. */
int migrate_in_receive(struct migrate_in *in, struct machine_config *cfg, struct err *e);
/* The machine m has been made: let it go on under the engine that it is for (a handover at
 * 1 ns), and take the guest over. Then it may run. Return: 0, or -errno with a line in e: the
 * guest is the source's. */
int migrate_in_begin(struct migrate_in *in, struct machine *m, struct err *e);
/* The guest has ended: wait for what is yet to come of its memory. NULL: nothing. */
void migrate_in_finish(struct migrate_in *in);
/* Tell the source that nothing comes of it. NULL: nothing. */
void migrate_in_refuse(struct migrate_in *in, const char *line);
/* After the machine. NULL: nothing. */
void migrate_in_close(struct migrate_in *in);
