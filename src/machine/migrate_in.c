/* SPDX-License-Identifier: MIT */
/*
 * The destination of a migration.
 *
 * Invariants
 * 1. A page goes where its number says, inside memory of the size that HELLO has named, and
 *    only from the stream that it belongs to.
 * 2. No machine is made before every page has the digest that the source has of all pages
 *    (post-copy: the guest runs before, and is lost where that is not so).
 * 3. Memory that is zeros is never touched: it takes none of the host's.
 */
#include "machine/migrate_in.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/thread.h"

/* ---- Pages ---- */

int migrate_in_page(struct migrate_in *in, uint64_t page, const uint8_t *data) {
    if (in->postcopy && migrate_postcopy_runs(in->postcopy))
        return migrate_postcopy_put(in, page, data);
    if (data)
        memcpy(migrate_at(&in->pages, page), data, PN_PAGE_SIZE);
    else if (migrate_is_there(&in->pages, page))
        memset(migrate_at(&in->pages, page), 0, PN_PAGE_SIZE);
    migrate_pages_note(&in->pages, page, data);
    return 0;
}

static int put(void *opaque, uint64_t page, const uint8_t *data) {
    struct migrate_receiver *r = opaque;
    return page / 64 % r->in->streams == r->number ? migrate_in_page(r->in, page, data)
                                                   : -EBADMSG;
}

int migrate_receive_pages(struct migrate_receiver *r, struct err *e) {
    for (;;) {
        enum migrate_record type;
        const uint8_t *data;
        size_t size;
        int rc = migrate_get(&r->stream, &type, &data, &size, e);
        if (rc || type == MIGRATE_LAST)
            return rc;
        if (type == MIGRATE_PAGES)
            rc = migrate_unpack(&r->unpacker, data, size, r->in->pages.all, put, r);
        if (rc || type != MIGRATE_PAGES)
            return err_set(e, rc ? rc : -EBADMSG,
                           "%s: data stream %u, record %" PRIu64 ": no pages of its own",
                           r->stream.peer, r->number, r->stream.got - 1);
    }
}

static void *work(void *opaque) {
    struct migrate_receiver *r = opaque;
    struct migrate_in *in = r->in;
    char line[sizeof(in->line)] = "";
    struct err e = {line, sizeof(line)};
    int rc = migrate_receive_pages(r, &e);
    if (!rc)
        return NULL;
    pthread_mutex_lock(&in->lock);
    if (!in->rc) {
        in->rc = rc;
        memcpy(in->line, line, sizeof(line));
    }
    pthread_mutex_unlock(&in->lock);
    wire_cut(&in->group); /* nobody waits for what cannot come any more */
    return NULL;
}

/* A stream's own error says more than that the others were cut. */
static int first_error(struct migrate_in *in, int rc, struct err *e) {
    pthread_mutex_lock(&in->lock);
    if (in->rc)
        rc = err_set(e, in->rc, "%s", in->line);
    pthread_mutex_unlock(&in->lock);
    return rc;
}

static void join(struct migrate_in *in) {
    for (unsigned i = 0; i < in->streams; i++) {
        if (in->receiver[i].started)
            pthread_join(in->receiver[i].thread, NULL);
        in->receiver[i].started = false;
    }
}

int migrate_in_wait(struct migrate_in *in, struct err *e) {
    join(in);
    return first_error(in, 0, e);
}

int migrate_in_check(struct migrate_in *in, uint64_t digest, struct err *e) {
    return migrate_pages_digest(&in->pages) == digest
               ? 0
               : err_set(e, -EBADMSG,
                         "%s: the pages that have come are not those that were sent",
                         in->o.at);
}

/* ---- Opening ---- */

static int read_hello(struct migrate_in *in, struct machine_config *cfg, struct err *e) {
    const struct snapshot s = {.dir = (char *)(uintptr_t)in->o.at, .manifest = in->hello};
    const char *schema = json_string_value(json_object_get(in->hello, "schema"));
    uint64_t streams;
    if (!schema || strcmp(schema, MIGRATE_SCHEMA) != 0)
        return err_set(e, -EINVAL, "%s: it speaks %s, and not %s", in->o.at,
                       schema ? schema : "something else", MIGRATE_SCHEMA);
    if (!snap_number(in->hello, "streams", MIGRATE_STREAMS_MAX, &streams) || !streams ||
        !snap_hex(in->hello, "session", &in->session[0]))
        return err_set(e, -EBADMSG, "%s: its hello is not as it should be", in->o.at);
    in->streams = (unsigned)streams;
    int rc = snapshot_config(&s, cfg, e);
    cfg->restore = NULL;
    if (rc == 0) /* or a peer would have files of this host's opened */
        rc = migrate_devices(cfg->devices, e);
    if (rc == 0 && cfg->firmware)
        rc =
            err_set(e, -ENOTSUP, "%s: a guest with --firmware cannot be moved", in->o.at);
    if (rc == 0 && (cfg->ram < MACHINE_RAM_MIN || cfg->ram % PN_PAGE_SIZE))
        rc = err_set(e, -EBADMSG, "%s: no guest has %" PRIu64 " bytes of memory",
                     in->o.at, cfg->ram);
    return rc;
}

static int answer_hello(struct migrate_in *in, struct err *e) {
    json_t *j = json_pack("{s:s, s:o}", "schema", MIGRATE_SCHEMA, "session",
                          json_sprintf("%016" PRIx64, in->session[1]));
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    if (!text)
        return err_set(e, -ENOMEM, "out of memory");
    int rc = migrate_put(&in->control, MIGRATE_HELLO, text, strlen(text), e);
    free(text);
    in->control.key = migrate_key(in->session[0], in->session[1], 0);
    return rc;
}

static int greet(struct migrate_in *in, struct machine_config *cfg, struct err *e) {
    struct wire *w;
    const uint8_t *data;
    size_t size = 0;
    int rc = wire_accept(in->door, &in->group, in->tls, true, &w, e);
    if (rc)
        return rc;
    migrate_stream_open(&in->control, w, in->o.at);
    rc = migrate_expect(&in->control, MIGRATE_HELLO, &data, &size, e);
    if (rc)
        return rc;
    in->hello = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    return read_hello(in, cfg, e);
}

int migrate_in_open(const struct migrate_in_options *o, struct machine_config *cfg,
                    struct migrate_in **out, struct err *e) {
    struct migrate_in *in = calloc(1, sizeof(*in));
    if (!in || getrandom(&in->session[1], sizeof(uint64_t), 0) != sizeof(uint64_t)) {
        free(in);
        return err_set(e, -ENOMEM, "out of memory");
    }
    in->o = *o;
    in->received.ram.fd = in->received.window.fd = -1;
    pthread_mutex_init(&in->lock, NULL);
    wire_group_init(&in->group, o->stall_ns);
    int rc = o->tls ? wire_tls_open(o->tls, true, &in->tls, e) : 0;
    if (rc == 0)
        rc = wire_listen(o->at, &in->door, e);
    if (rc == 0)
        rc = greet(in, cfg, e);
    if (rc) {
        if (in->control.peer && rc != -EREMOTEIO)
            migrate_refuse(&in->control, e->text);
        migrate_in_close(in);
        return rc;
    }
    *out = in;
    return 0;
}

/* ---- Receiving ---- */

static int take_memory(struct migrate_in *in, const struct machine_config *cfg,
                       struct err *e) {
    struct hostmem_config memory = {.size = cfg->ram,
                                    .hugepages = cfg->hugepages,
                                    .numa = cfg->numa,
                                    .shared = cfg->shared_ram};
    struct migrate_pages *p = &in->pages;
    int rc = hostmem_create(&memory, &in->received.ram, e);
    memory.size = (uint64_t)PN_WINDOW_PAGES_MAX * PN_PAGE_SIZE;
    memory.shared = false;
    if (rc == 0 && cfg->window)
        rc = hostmem_create(&memory, &in->received.window, e);
    if (rc)
        return rc;
    if (migrate_pages_open(p, cfg->ram / PN_PAGE_SIZE, cfg->window))
        return err_set(e, -ENOMEM, "out of memory");
    p->base = in->received.ram.base;
    p->window = in->received.window.base;
    in->received.pages = p->all;
    in->received.there = p->there;
    return 0;
}

static int start(struct migrate_receiver *r, struct err *e) {
    int rc = thread_start(&r->thread, work, r);
    r->started = rc == 0;
    return rc ? err_sys(e, rc, "a thread for a stream") : 0;
}

/* One stream after another, in the words of this session. */
static int welcome(struct migrate_in *in, unsigned i, struct err *e) {
    struct migrate_receiver *r = &in->receiver[i];
    struct wire *w;
    const uint8_t *data;
    const uint64_t number = i;
    size_t size = sizeof(number);
    int rc = wire_accept(in->door, &in->group, in->tls, false, &w, e);
    if (rc)
        return rc;
    r->in = in;
    r->number = i;
    migrate_stream_open(&r->stream, w, in->o.at);
    r->stream.key = migrate_key(in->session[0], in->session[1], i + 1);
    rc = migrate_expect(&r->stream, MIGRATE_JOIN, &data, &size, e);
    if (rc == 0 && memcmp(data, &number, sizeof(number)) != 0)
        rc = err_set(e, -EBADMSG, "%s: another stream was to come", in->o.at);
    if (rc)
        return rc;
    return migrate_unpacker_open(&r->unpacker) ? err_set(e, -ENOMEM, "out of memory")
                                               : start(r, e);
}

static int take_state(struct migrate_in *in, const uint8_t *data, size_t size,
                      struct machine_config *cfg, struct err *e) {
    int rc = in->snapshot ? err_set(e, -EBADMSG, "%s: a second state", in->o.at)
                          : migrate_state_unpack(data, size, in->o.at, &in->snapshot, e);
    if (rc)
        return rc;
    if (!json_equal(json_object_get(in->snapshot->manifest, "machine"),
                    json_object_get(in->hello, "machine")))
        return err_set(e, -EBADMSG, "%s: the state is of another machine than its hello",
                       in->o.at);
    in->snapshot->received = &in->received;
    cfg->restore = in->snapshot;
    return 0;
}

/* Post-copy: what came before is put before the first that was missing. */
static int take_missing(struct migrate_in *in, const uint8_t *data, size_t size,
                        struct err *e) {
    int rc = migrate_in_wait(in, e);
    if (rc == 0)
        rc = migrate_postcopy_begin(in, data, size, e);
    for (unsigned i = 0; rc == 0 && i < in->streams; i++)
        rc = start(&in->receiver[i], e);
    return rc;
}

/* What control says until all has come that has to. */
static int listen_to_control(struct migrate_in *in, struct machine_config *cfg,
                             struct err *e) {
    bool missing = false;
    for (;;) {
        enum migrate_record type;
        const uint8_t *data;
        uint64_t digest;
        size_t size;
        int rc = migrate_get(&in->control, &type, &data, &size, e);
        if (rc)
            return rc;
        if (type == MIGRATE_MISSING && in->postcopy && !missing) {
            rc = take_missing(in, data, size, e);
            missing = true;
        } else if (type == MIGRATE_STATE) {
            rc = take_state(in, data, size, cfg, e);
            if (rc == 0 && missing)
                return 0;
        } else if (type == MIGRATE_END && size == sizeof(digest) && in->snapshot) {
            memcpy(&digest, data, sizeof(digest));
            rc = migrate_in_wait(in, e);
            return rc ? rc : migrate_in_check(in, digest, e);
        } else {
            rc = err_set(e, -EBADMSG, "%s: no such record belongs here", in->o.at);
        }
        if (rc)
            return rc;
    }
}

static bool by_hypervisor(const struct machine_config *cfg) {
    bool is = cfg->engine->host_cpu;
    for (unsigned i = 0; i < cfg->handovers; i++)
        is |= cfg->handover[i].to->host_cpu;
    return is;
}

/* Refused while the guest still runs at the source, before its memory has come. */
static int may_postcopy(struct migrate_in *in, const struct machine_config *cfg,
                        struct err *e) {
    if (!json_is_true(json_object_get(in->hello, "postcopy")))
        return 0;
    const char *huge = cfg->hugepages;
    if (cfg->shared_ram || pn_dirty_by_host(cfg->dirty) ||
        (huge && (!strcmp(huge, "2M") || !strcmp(huge, "1G"))))
        return err_set(
            e, -ENOTSUP,
            "post-copy does not go with --shared-memory, --hugepages 2M or 1G, "
            "or a dirty log of the host's");
    return migrate_postcopy_open(in, by_hypervisor(cfg), e);
}

int migrate_in_receive(struct migrate_in *in, struct machine_config *cfg, struct err *e) {
    int rc = may_postcopy(in, cfg, e);
    if (rc == 0)
        rc = take_memory(in, cfg, e);
    if (rc == 0)
        rc = answer_hello(in, e);
    for (unsigned i = 0; rc == 0 && i < in->streams; i++)
        rc = welcome(in, i, e);
    if (rc == 0) {
        rc = listen_to_control(in, cfg, e);
        rc = first_error(in, rc, e);
    }
    if (rc && rc != -EREMOTEIO)
        migrate_in_refuse(in, e->text);
    if (rc) /* no receiver writes there any more */
        wire_cut(&in->group);
    return rc;
}

/* ---- The end ---- */

/* What a hypervisor does not take, the source keeps. */
static int hand_over(struct machine *m, struct err *e) {
    if (!m->cfg.handovers || m->cfg.handover[0].at_ns != 1)
        return 0;
    int rc = machine_handover(m, e);
    clock_cancel(&m->clock, &m->handover_timer); /* the first run arms it */
    return rc;
}

int migrate_in_begin(struct migrate_in *in, struct machine *m, struct err *e) {
    size_t nothing = 0;
    int rc = hand_over(m, e);
    if (rc) {
        migrate_in_refuse(in, e->text);
        return rc;
    }
    rc = migrate_put(&in->control, MIGRATE_READY, NULL, 0, e);
    if (rc == 0)
        rc = migrate_expect(&in->control, MIGRATE_GO, NULL, &nothing, e);
    if (rc == 0)
        rc = migrate_put(&in->control, MIGRATE_RUNNING, NULL, 0, e);
    if (rc)
        return rc;
    in->run = true;
    if (!in->postcopy || !migrate_postcopy_runs(in->postcopy))
        return 0;
    m->coming = in;
    return migrate_postcopy_run(in, e);
}

void migrate_in_finish(struct migrate_in *in) {
    if (in && in->postcopy)
        migrate_postcopy_finish(in->postcopy);
}

void migrate_in_refuse(struct migrate_in *in, const char *line) {
    if (in && !in->run)
        migrate_refuse(&in->control, line);
}

void migrate_in_close(struct migrate_in *in) {
    if (!in)
        return;
    migrate_postcopy_close(in); /* which waits for streams, too */
    wire_cut(&in->group);
    join(in);
    for (unsigned i = 0; i < MIGRATE_STREAMS_MAX; i++) {
        migrate_stream_close(&in->receiver[i].stream);
        migrate_unpacker_close(&in->receiver[i].unpacker);
    }
    migrate_stream_close(&in->control);
    wire_door_close(in->door);
    wire_tls_close(in->tls);
    snapshot_close(in->snapshot);
    if (!in->received.given) {
        hostmem_destroy(&in->received.ram);
        hostmem_destroy(&in->received.window);
    }
    migrate_pages_close(&in->pages);
    pthread_mutex_destroy(&in->lock);
    json_decref(in->hello);
    free(in);
}
