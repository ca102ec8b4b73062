/* SPDX-License-Identifier: MIT */
/*
 * A Linux guest's panic, seen on its console. The kernel prints "Kernel panic - not
 * syncing: ...", then resets (panic=-1), or prints "---[ end Kernel panic ..." and spins
 * for ever. Both lines may begin with a time in brackets.
 */
#include <string.h>

#include "cli/run.h"

static bool begins(const char *line, const char *with) {
    return !strncmp(line, with, strlen(with));
}

static void look(struct panic_watch *w) {
    const char *line = w->line, *time;
    w->line[w->used] = 0;
    if (line[0] == '[' && (time = strstr(line, "] ")))
        line = time + 2;
    w->seen |= begins(line, "Kernel panic - not syncing");
    w->ended |= w->seen && begins(line, "---[ end Kernel panic - not syncing");
}

bool panic_watch(struct panic_watch *w, const uint8_t *buf, size_t size) {
    bool ended = w->ended;
    for (size_t i = 0; i < size; i++) {
        if (buf[i] == '\n') {
            look(w);
            w->used = 0;
        } else if (w->used < sizeof(w->line) - 1) {
            w->line[w->used++] = (char)buf[i];
        }
    }
    return w->ended && !ended;
}
