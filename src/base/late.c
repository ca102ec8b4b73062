/* SPDX-License-Identifier: MIT */
/* Libraries that few runs need: see late.h. */
#include "base/late.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

int late_open(const char *soname, const struct late_call *calls, size_t count,
              struct err *e) {
    void *library = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return err_set(e, -ENOENT, "%s", dlerror());
    for (size_t i = 0; i < count; i++) {
        void *at = dlsym(library, calls[i].name);
        if (!at)
            return err_set(e, -ENOENT, "%s", dlerror());
        memcpy(calls[i].call, &at, sizeof(at));
    }
    return 0;
}
