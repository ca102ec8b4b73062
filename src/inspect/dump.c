/* SPDX-License-Identifier: MIT */
/* A dump of an MMU: made, read back, printed (dump.h). */
#include "inspect/dump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "inspect/dump_internal.h"
#include "inspect/explain.h"
#include "trace/trace.h"

#define FILE_MAX (1ull << 30)

static json_t *hex(uint64_t v) {
    return json_sprintf("0x%" PRIx64, v);
}

/* ---- Ranges ---- */

struct ranges {
    struct pn_mmu *mmu;
    bool pse;
    json_t *list;
    struct pn_mapping now; /* size 0: none yet */
    const struct pn_memslot *slot;
    bool failed;
};

static json_t *access_json(unsigned rights) {
    char buf[WORDS_MAX];
    const char *acc = words_of(PN_TYPE_access, rights & 7, buf);
    return json_sprintf("%s%s%s", rights & 7 ? acc : "supervisor",
                        rights & PN_MAP_STORE ? ",store" : "",
                        rights & PN_MAP_GLOBAL ? ",global" : "");
}

static void flush(struct ranges *r) {
    const struct pn_mapping *m = &r->now;
    if (!m->size)
        return;
    json_t *j = json_pack(
        "{s:o, s:o, s:o, s:s, s:o, s:i, s:o}", "from", hex(m->from), "to",
        hex(m->from + m->size - 1), "gpa", hex(m->gpa), "page",
        page_words(m->level, r->pse), "access", access_json(m->rights), "pkey", m->pkey,
        "host",
        r->slot ? json_sprintf("slot%u+0x%" PRIx64, r->slot->id, m->gpa - r->slot->gpa)
                : json_null());
    r->failed |= json_array_append_new(r->list, j) != 0;
}

static bool continues(const struct ranges *r, const struct pn_mapping *m) {
    const struct pn_mapping *n = &r->now;
    return n->size && n->from + n->size == m->from && n->gpa + n->size == m->gpa &&
           n->level == m->level && n->pkey == m->pkey && n->rights == m->rights &&
           (r->slot ? m->gpa - r->slot->gpa < r->slot->size
                    : !pn_mmu_slot_find(r->mmu, m->gpa));
}

static bool add_mapping(void *opaque, const struct pn_mapping *m) {
    struct ranges *r = opaque;
    if (continues(r, m)) {
        r->now.size += m->size;
        return true;
    }
    flush(r);
    r->now = *m;
    r->slot = pn_mmu_slot_find(r->mmu, m->gpa);
    return !r->failed;
}

typedef bool (*lister)(struct pn_mmu_vcpu *vcpu, pn_mapping_fn fn, void *opaque);

/* *cut: there are more. Return: NULL: out of memory. */
static json_t *ranges_json(const struct view *v, lister list, bool pse, bool *cut) {
    struct ranges r = {.mmu = pn_mmu_of(v->vcpu), .pse = pse, .list = json_array()};
    *cut |= !list(v->vcpu, add_mapping, &r);
    flush(&r);
    if (!r.failed)
        return r.list;
    json_decref(r.list);
    return NULL;
}

/* ---- Tables, slots ---- */

struct tables {
    struct pn_table *t;
    size_t count, room;
    bool failed;
};

static bool add_table(void *opaque, const struct pn_table *t) {
    struct tables *all = opaque;
    if (all->count == all->room) {
        size_t room = all->room ? all->room * 2 : 256;
        struct pn_table *grown = realloc(all->t, room * sizeof(*grown));
        all->failed = !grown;
        if (!grown)
            return false;
        all->t = grown;
        all->room = room;
    }
    all->t[all->count++] = *t;
    return true;
}

static int by_gfn(const void *a, const void *b) {
    const struct pn_table *x = a, *y = b;
    if (x->gfn != y->gfn)
        return x->gfn < y->gfn ? -1 : 1;
    return (x->role > y->role) - (x->role < y->role);
}

static json_t *table_json(const struct pn_table *t) {
    char role[WORDS_MAX];
    return json_pack("{s:o, s:s, s:b, s:i, s:i, s:i, s:i, s:i, s:b, s:b}", "gfn",
                     hex(t->gfn), "role", words_of(PN_TYPE_role, t->role, role), "unsync",
                     t->unsync, "used", (int)t->used, "parents",
                     (int)(t->parents + t->roots), "unsync_below", (int)t->unsync_below,
                     "flood", (int)t->flood, "age", (int)t->age, "read_only",
                     t->read_only, "obsolete", t->obsolete);
}

static json_t *tables_json(const struct view *v) {
    struct tables all = {0};
    pn_mmu_tables(pn_mmu_of(v->vcpu), add_table, &all);
    json_t *list = all.failed ? NULL : json_array();
    if (all.count)
        qsort(all.t, all.count, sizeof(*all.t), by_gfn);
    for (size_t i = 0; list && i < all.count; i++)
        json_array_append_new(list, table_json(&all.t[i]));
    free(all.t);
    return list;
}

static json_t *slots_json(const struct view *v) {
    json_t *list = json_array();
    const struct pn_memslot *s;
    char flags[WORDS_MAX];
    for (unsigned i = 0; (s = pn_mmu_slot_at(pn_mmu_of(v->vcpu), i)); i++)
        json_array_append_new(
            list, json_pack("{s:i, s:o, s:o, s:s, s:o}", "id", (int)s->id, "from",
                            hex(s->gpa), "to", hex(s->gpa + s->size - 1), "flags",
                            words_of(PN_TYPE_slot_flags, s->flags, flags), "hva",
                            hex((uintptr_t)s->hva)));
    return list;
}

json_t *dump_json(const struct view *v) {
    struct pn_explanation x;
    char mode[WORDS_MAX];
    bool cut = false;
    if (pn_mmu_explain(v->vcpu, 0, &x)) /* the paging mode */
        return NULL;
    bool pse = (x.mode & PN_MODE_LEVELS) == 2;
    json_t *guest = ranges_json(v, pn_mmu_guest_mappings, pse, &cut);
    json_t *j = json_pack(
        "{s:s, s:s, s:i, s:o, s:s, s:o, s:o}", "schema", "penumbra-dump-1", "mmu",
        v->ops->name, "vcpu", (int)v->cpu, "cr3", hex(x.paging.cr3), "mode",
        words_of(PN_TYPE_mode, x.mode, mode), "slots", slots_json(v), "guest", guest);
    if (j && !v->guest_only) {
        const char *ours = x.kind == PN_MMU_TDP ? "second" : "shadow";
        json_t *maps = ranges_json(v, pn_mmu_our_mappings, false, &cut);
        json_t *tables = tables_json(v);
        if (!maps || !tables || json_object_set_new(j, ours, maps) ||
            json_object_set_new(j, "tables", tables)) {
            json_decref(j);
            return NULL;
        }
    }
    if (j)
        json_object_set_new(j, "cut", json_boolean(cut));
    return j;
}

/* ---- Reading ---- */

const struct dump_section dump_sections[] = {
    {"slots", "id", "from to flags", "", false},
    {"guest", NULL, "", "gpa page access pkey host", true},
    {"shadow", NULL, "", "gpa page access pkey host", true},
    {"second", NULL, "", "gpa page access pkey host", true},
    {"tables", "gfn role", "unsync used parents read_only obsolete", "", false},
    {NULL, NULL, NULL, NULL, false},
};

static bool has_all(const json_t *o, const char *names) {
    char name[32];
    for (int n; sscanf(names, " %31s%n", name, &n) == 1; names += n)
        if (!json_object_get(o, name))
            return false;
    return true;
}

/* Every object of a section has what its kind has; ranges ascend. */
static bool check_section(const struct dump_section *s, const json_t *list) {
    const json_t *o;
    uint64_t from, to, gpa, last = 0;
    size_t i;
    if (!json_is_array(list))
        return false;
    json_array_foreach(list, i, o) {
        if (!json_is_object(o) || (s->keys && !has_all(o, s->keys)) ||
            !has_all(o, s->compared) || !has_all(o, s->attributes))
            return false;
        if (!s->ranges)
            continue;
        if (!dump_number(o, "from", &from) || !dump_number(o, "to", &to) || to < from ||
            (i && from <= last) || !dump_number(o, "gpa", &gpa))
            return false;
        last = to;
    }
    return true;
}

bool dump_number(const json_t *o, const char *name, uint64_t *v) {
    const char *text = json_string_value(json_object_get(o, name));
    char *end;
    if (!text || strncmp(text, "0x", 2) != 0)
        return false;
    errno = 0;
    *v = strtoull(text, &end, 16);
    return !*end && !errno;
}

int dump_parse(const void *data, size_t size, const char *name, json_t **out,
               struct err *e) {
    json_error_t why;
    json_t *j = json_loadb(data, size, 0, &why);
    if (!j)
        return err_set(e, -EINVAL, "%s: no JSON: %s", name, why.text);
    const char *schema = json_string_value(json_object_get(j, "schema"));
    bool good =
        schema && !strcmp(schema, "penumbra-dump-1") && has_all(j, "mmu mode cr3 guest");
    for (const struct dump_section *s = dump_sections; good && s->name; s++) {
        const json_t *list = json_object_get(j, s->name);
        good = !list || check_section(s, list);
    }
    if (!good) {
        json_decref(j);
        return err_set(e, -EINVAL, "%s: no dump of penumbra's", name);
    }
    *out = j;
    return 0;
}

int dump_load(const char *path, json_t **out, struct err *e) {
    void *data;
    size_t size;
    int rc = file_read(path, FILE_MAX, &data, &size, e);
    if (rc)
        return rc;
    rc = dump_parse(data, size, path, out, e);
    free(data);
    return rc;
}

/* ---- Printing ---- */

static const char *text(const json_t *o, const char *name) {
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "-";
}

static int number(const json_t *o, const char *name) {
    return (int)json_integer_value(json_object_get(o, name));
}

void dump_print_object(const char *section, const json_t *o, FILE *out) {
    if (!strcmp(section, "slots")) {
        fprintf(out, "slot %d gpa %s-%s flags %s\n", number(o, "id"), text(o, "from"),
                text(o, "to"), text(o, "flags"));
    } else if (!strcmp(section, "tables")) {
        fprintf(out, "table gfn %s role %s %s used %d parents %d", text(o, "gfn"),
                text(o, "role"),
                json_is_true(json_object_get(o, "unsync")) ? "unsync" : "synced",
                number(o, "used"), number(o, "parents"));
        if (json_object_get(o, "age"))
            fprintf(out, " age %d", number(o, "age"));
        fprintf(out, "%s%s\n",
                json_is_true(json_object_get(o, "read_only")) ? " read-only" : "",
                json_is_true(json_object_get(o, "obsolete")) ? " obsolete" : "");
    } else if (!strcmp(section, "root")) {
        fprintf(out, "root mmu %s mode %s cr3 %s\n", text(o, "mmu"), text(o, "mode"),
                text(o, "cr3"));
    } else {
        fprintf(out, "%s %s-%s -> gpa %s %s %s", section, text(o, "from"), text(o, "to"),
                text(o, "gpa"), text(o, "page"), text(o, "access"));
        if (number(o, "pkey"))
            fprintf(out, " pkey %d", number(o, "pkey"));
        fprintf(out, " at %s\n", text(o, "host"));
    }
}

void dump_print(const json_t *dump, FILE *out) {
    dump_print_object("root", dump, out);
    for (const struct dump_section *s = dump_sections; s->name; s++) {
        const json_t *o;
        size_t i;
        json_array_foreach(json_object_get(dump, s->name), i, o)
            dump_print_object(s->name, o, out);
    }
    if (json_is_true(json_object_get(dump, "cut")))
        fputs("(cut: the tables lead into each other)\n", out);
}
