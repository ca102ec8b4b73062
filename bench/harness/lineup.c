/* SPDX-License-Identifier: MIT */
/*
 * MMU configurations from the text of --mmu.
 *
 * Invariant: no two of a lineup have the same engine, options in effect, and dirty log.
 */
#include "bench/harness/lineup.h"

#include <errno.h>
#include <string.h>

static int find_engine(const char *name, size_t n, const struct pn_engine_ops **ops,
                       struct err *e) {
    char list[128] = "";
    for (unsigned i = 0; (*ops = pn_engine_at(i)); i++) {
        if (strlen((*ops)->name) == n && !memcmp((*ops)->name, name, n))
            return 0;
        snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", i ? ", " : "",
                 (*ops)->name);
    }
    return err_set(e, -EINVAL, "'%.*s': not one of %s", (int)n, name, list);
}

static int append(struct lineup *l, const struct lineup_mmu *m, struct err *e) {
    for (unsigned i = 0; i < l->n; i++)
        if (l->mmu[i].engine == m->engine && l->mmu[i].log == m->log &&
            l->mmu[i].no_log == m->no_log &&
            !memcmp(&l->mmu[i].opt, &m->opt, sizeof(m->opt)))
            return !strcmp(l->mmu[i].label, m->label)
                       ? err_set(e, -EINVAL, "%s is named twice", m->label)
                       : err_set(e, -EINVAL, "%s and %s are the same", l->mmu[i].label,
                                 m->label);
    if (l->n == LINEUP_MAX)
        return err_set(e, -ENOSPC, "more than %u configurations", LINEUP_MAX);
    l->mmu[l->n++] = *m;
    return 0;
}

#define LOG "log="

/* The trackers of an engine, with that between them. Return: buf. */
static const char *trackers(const struct pn_engine_ops *engine, const char *between,
                            char *buf, size_t size) {
    size_t used = 0;
    buf[0] = 0;
    for (unsigned t = PN_TRACKER_OFF + 1; t < PN_TRACKERS && used < size; t++)
        if (engine->has_tracker(t))
            used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? between : "",
                                     pn_dirty_name(t));
    return buf;
}

static int set_log(struct lineup_mmu *m, const char *name, struct err *e) {
    char has[256];
    m->no_log = !strcmp(name, pn_dirty_name(PN_TRACKER_OFF));
    if (m->no_log)
        return 0;
    for (unsigned t = PN_TRACKER_OFF + 1; t < PN_TRACKERS; t++)
        if (m->engine->has_tracker(t) && !strcmp(pn_dirty_name(t), name)) {
            m->log = t;
            return 0;
        }
    return err_set(e, -EINVAL, "%s: log=%s: not one of %s, off, all", m->label, name,
                   trackers(m->engine, ", ", has, sizeof(has)));
}

/* "name=value" into the options. */
static int set_option(struct lineup_mmu *m, const char *item, struct err *e) {
    const char *only = pn_mmu_option_only(item);
    char allowed[128];
    int rc = pn_mmu_option_set(&m->opt, item);
    if (m->engine->host_cpu)
        return err_set(e, -EINVAL, "%s: its MMU has no such options, but log=TRACKER",
                       m->engine->name);
    if (rc == -ENOENT)
        return err_set(e, -EINVAL, "%s: no option of the MMU is called '%.*s'", m->label,
                       (int)strcspn(item, "="), item);
    if (rc)
        return err_set(e, -EINVAL, "%s: %s: not %s", m->label, item,
                       pn_mmu_option_allowed(item, allowed, sizeof(allowed)));
    if (only && strcmp(only, m->engine->name) != 0)
        return err_set(e, -EINVAL, "%s: %.*s is an option of %s alone", m->label,
                       (int)strcspn(item, "="), item, only);
    return 0;
}

/* The same, and into the label. */
static int set(struct lineup_mmu *m, const char *item, struct err *e) {
    size_t used = strlen(m->label), room = sizeof(m->label) - used;
    int rc = strncmp(item, LOG, strlen(LOG)) ? set_option(m, item, e)
                                             : set_log(m, item + strlen(LOG), e);
    if (rc)
        return rc;
    if ((size_t)snprintf(m->label + used, room, "%c%s", m->options++ ? '+' : ':', item) >=
        room)
        return err_set(e, -EINVAL, "%s: too many options", m->label);
    return 0;
}

static bool named(const struct lineup_mmu *m, const char *name, size_t n) {
    const char *at = strchr(m->label, ':');
    for (; at; at = strchr(at + 1, '+'))
        if (!strncmp(at + 1, name, n) && at[1 + n] == '=')
            return true;
    return false;
}

/* m with what `items` says, once for each combination of values; *sweeps: options with
 * more than one value so far. */
static int expand(struct lineup *l, const struct lineup_mmu *m, const char *items,
                  unsigned sweeps, struct err *e) {
    size_t n = strcspn(items, "+"), name = strcspn(items, "=");
    char item[256]; /* an option with all its values is to be shorter */
    if (!*items)
        return append(l, m, e);
    if (name >= n || n >= sizeof(item))
        return err_set(e, -EINVAL, "%s: '%.*s': not NAME=VALUE", m->label, (int)n, items);
    if (named(m, items, name))
        return err_set(e, -EINVAL, "%s: %.*s is given twice", m->label, (int)name, items);
    const char *value = items + name + 1, *end = items + n, *rest = end + (*end != 0);
    if (!strncmp(items, LOG "all", n) && n == strlen(LOG "all")) {
        char all[256], each[768];
        snprintf(each, sizeof(each), LOG "%s%s",
                 trackers(m->engine, "/", all, sizeof(all)), end);
        return expand(l, m, each, sweeps, e);
    }
    bool swept = memchr(value, '/', (size_t)(end - value)) != NULL;
    for (size_t v, last = 1; last; value += v + last) {
        struct lineup_mmu one = *m;
        v = strcspn(value, "/+");
        last = value[v] == '/';
        snprintf(item, sizeof(item), "%.*s=%.*s", (int)name, items, (int)v, value);
        int rc = set(&one, item, e);
        if (swept)
            snprintf(one.axis, sizeof(one.axis), "%.*s", sweeps ? 0 : (int)name, items);
        if (!rc)
            rc = expand(l, &one, rest, sweeps + swept, e);
        if (rc)
            return rc;
    }
    return 0;
}

static void begin(struct lineup_mmu *m, const struct pn_engine_ops *engine) {
    *m = (struct lineup_mmu){.engine = engine};
    pn_mmu_options_default(&m->opt);
    snprintf(m->label, sizeof(m->label), "%s", engine->name);
}

int lineup_add_engine(struct lineup *l, const struct pn_engine_ops *engine,
                      struct err *e) {
    struct lineup_mmu m;
    begin(&m, engine);
    return append(l, &m, e);
}

static int add_one(struct lineup *l, const char *text, size_t n, struct err *e) {
    const struct pn_engine_ops *engine;
    struct lineup_mmu m;
    char copy[256];
    snprintf(copy, sizeof(copy), "%.*s", (int)n, text);
    size_t name = strcspn(copy, ":");
    int rc = find_engine(copy, name, &engine, e);
    if (rc)
        return rc;
    if (n >= sizeof(copy))
        return err_set(e, -EINVAL, "%s: too many options", engine->name);
    begin(&m, engine);
    if (copy[name] && !copy[name + 1])
        return err_set(e, -EINVAL, "%s: no options behind the colon", copy);
    return expand(l, &m, copy + name + (copy[name] != 0), 0, e);
}

int lineup_add(struct lineup *l, const char *text, struct err *e) {
    int rc = 0;
    for (size_t n, last = 1; !rc && last; text += n + last) {
        n = strcspn(text, ",");
        last = text[n] != 0;
        rc = add_one(l, text, n, e);
    }
    return rc;
}

json_t *lineup_options(const struct pn_mmu_options *opt) {
    uint32_t value;
    const char *name;
    json_t *all = opt ? json_object() : json_null();
    for (unsigned i = 0; opt && (name = pn_mmu_option_at(i, opt, &value)); i++) {
        const char *word = pn_mmu_option_word(i, value);
        json_object_set_new(all, name, word ? json_string(word) : json_integer(value));
    }
    return all;
}

json_t *lineup_sweep(const struct lineup_mmu *m) {
    uint32_t value;
    const char *name;
    for (unsigned i = 0; (name = pn_mmu_option_at(i, &m->opt, &value)); i++)
        if (!strcmp(name, m->axis))
            return json_pack("{s:s, s:f}", "parameter", name, "value", (double)value);
    return json_null();
}
