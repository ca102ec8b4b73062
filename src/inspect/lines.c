/* SPDX-License-Identifier: MIT */
/* Source lines by libdwfl: see lines.h. */
#include "inspect/lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <elfutils/libdwfl.h>

#include "base/late.h"

#define CALLS                                                                            \
    CALL(begin)                                                                          \
    CALL(end)                                                                            \
    CALL(errmsg)                                                                         \
    CALL(lineinfo)                                                                       \
    CALL(module_getdwarf)                                                                \
    CALL(module_getsrc)                                                                  \
    CALL(offline_section_address)                                                        \
    CALL(report_end)                                                                     \
    CALL(report_offline)

static struct {
#define CALL(name) __typeof__(dwfl_##name) *name;
    CALLS
#undef CALL
} dwfl;

static int library_open(struct err *e) {
    static const struct late_call calls[] = {
#define CALL(name) {"dwfl_" #name, &dwfl.name},
        CALLS
#undef CALL
    };
    return late_open(DW_SONAME, calls, sizeof(calls) / sizeof(calls[0]), e);
}

struct lines {
    Dwfl *dwfl;
    Dwfl_Module *module;
    Dwfl_Callbacks callbacks;
    Dwarf_Addr moved; /* what libdwfl adds to the file's addresses */
};

static int no_other_file(Dwfl_Module *m, void **data, const char *name, Dwarf_Addr base,
                         const char *file, const char *link, GElf_Word crc, char **path) {
    (void)m, (void)data, (void)name, (void)base, (void)file, (void)link, (void)crc,
        (void)path;
    return -1;
}

static int open_in(struct lines *l, const char *path, struct err *e) {
    l->callbacks.find_debuginfo = no_other_file;
    l->callbacks.section_address = dwfl.offline_section_address;
    l->dwfl = dwfl.begin(&l->callbacks);
    if (!l->dwfl)
        return err_set(e, -ENOMEM, "%s: %s", path, dwfl.errmsg(-1));
    if (access(path, R_OK))
        return err_sys(e, -errno, "%s", path);
    l->module = dwfl.report_offline(l->dwfl, path, path, -1);
    if (!l->module)
        return err_set(e, -EINVAL, "%s: %s", path, dwfl.errmsg(-1));
    dwfl.report_end(l->dwfl, NULL, NULL);
    if (!dwfl.module_getdwarf(l->module, &l->moved))
        return err_set(e, -EINVAL, "%s: no debug information in it", path);
    return 0;
}

int lines_open(const char *path, struct lines **out, struct err *e) {
    int rc = library_open(e);
    if (rc)
        return rc;
    struct lines *l = calloc(1, sizeof(*l));
    rc = l ? open_in(l, path, e) : err_set(e, -ENOMEM, "out of memory");
    if (rc)
        lines_close(l);
    else
        *out = l;
    return rc;
}

void lines_close(struct lines *l) {
    if (l && l->dwfl)
        dwfl.end(l->dwfl);
    free(l);
}

bool lines_at(struct lines *l, uint64_t address, char *buf, size_t size) {
    Dwfl_Line *line = dwfl.module_getsrc(l->module, address + l->moved);
    int number = 0;
    const char *file = line ? dwfl.lineinfo(line, NULL, &number, NULL, NULL, NULL) : NULL;
    if (!file || number <= 0)
        return false;
    const char *slash = strrchr(file, '/');
    int n = snprintf(buf, size, "%s:%d", slash ? slash + 1 : file, number);
    for (char *p = buf; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
    return n > 0 && (size_t)n < size;
}
