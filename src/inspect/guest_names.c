/* SPDX-License-Identifier: MIT */
/* What a guest's instructions belong to: see guest_names.h. */
#include "inspect/guest_names.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/linux_internal.h"

struct guest_names {
    struct linux_image *image; /* NULL: no Linux of 64 bits with types */
    struct linux_machine guest;
    struct linux_functions *modules;
    struct symbols *own;           /* where there is no image */
    const struct symbols *symbols; /* of either; NULL: none */
    uint64_t moved;
};

int guest_names_create(struct machine *m, const char *kernel, const void *blob,
                       size_t blob_size, struct guest_names **out, struct err *e) {
    struct err unsaid = {NULL, 0}; /* a kernel may have no symbols */
    struct guest_names *n = calloc(1, sizeof(*n));
    if (!n || !(n->modules = linux_functions_create())) {
        free(n);
        return err_set(e, -ENOMEM, "out of memory");
    }
    n->moved = machine_kernel_moved(m);
    if (kernel && linux_image_load(kernel, &n->image, &unsaid) == 0) {
        linux_machine_begin(&n->guest, m, n->image);
        n->symbols = n->image->symbols;
    } else if (kernel ? symbols_load(kernel, &n->own, &unsaid) == 0
                      : blob && symbols_parse(blob, blob_size, "guest", &n->own,
                                              &unsaid) == 0) {
        n->symbols = n->own;
    }
    *out = n;
    return 0;
}

void guest_names_destroy(struct guest_names *n) {
    if (!n)
        return;
    linux_functions_destroy(n->modules);
    linux_image_free(n->image);
    symbols_free(n->own);
    free(n);
}

bool guest_names_processes(const struct guest_names *n) {
    return n->image != NULL;
}

bool guest_names_task(struct guest_names *n, const struct pn_where *w,
                      struct guest_task *t) {
    const struct linux_guest *g = &n->guest.guest;
    struct linux_task now;
    struct linux_vma v;
    *t = (struct guest_task){.pid = 0};
    if (!n->image || w->nested || !linux_machine_look(&n->guest, w->cr3) ||
        !linux_current(g, w->cpu, &now))
        return false;
    t->pid = now.tgid;
    memcpy(t->comm, now.leader, sizeof(t->comm));
    if (w->cpl == 3 && now.mm && linux_same_space(now.cr3, w->cr3) &&
        linux_vma_at(g, now.mm, w->rip, &v) == LINUX_FOUND)
        memcpy(t->region, v.name, sizeof(t->region));
    return true;
}

void guest_names_function(struct guest_names *n, uint64_t rip, char name[GUEST_NAME]) {
    struct linux_function f;
    uint32_t number = n->symbols ? symbols_at(n->symbols, rip - n->moved) : SYMBOLS_NONE;
    if (number != SYMBOLS_NONE)
        snprintf(name, GUEST_NAME, "%s", symbols_name(n->symbols, number));
    else if (n->guest.ready && linux_function_at(n->modules, &n->guest.guest, rip, &f))
        snprintf(name, GUEST_NAME, "%s [%s]", f.name, f.module);
    else
        snprintf(name, GUEST_NAME, "0x%" PRIx64, rip);
}
