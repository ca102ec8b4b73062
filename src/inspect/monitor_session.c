/* SPDX-License-Identifier: MIT */
/* The monitor at a channel: see monitor_session.h. One call of serve takes a bounded number of
 * bytes, whatever the client sends. */
#include "inspect/monitor_session.h"

#include <stdlib.h>
#include <string.h>

#define TAKES_MAX 16u
#define CHUNK     4096u

static void answer(struct monitor_session *s, const char *line) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return;
    monitor_command(s->mon, &s->client, line, out);
    fclose(out);
    if (size && s->channel)
        channel_write(s->channel, text, size);
    free(text);
}

static void end_line(struct monitor_session *s) {
    if (s->used && s->line[s->used - 1] == '\r')
        s->used--;
    s->line[s->used] = 0;
    answer(s, s->line); /* of one that is too long the monitor says so */
    s->used = 0;
}

void monitor_session_feed(struct monitor_session *s, const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        char c = bytes[i];
        if (c == '\n')
            end_line(s);
        else if (s->used + 1 < sizeof(s->line))
            s->line[s->used++] = c ? c : '?';
    }
}

void monitor_session_serve(struct monitor_session *s) {
    char buf[CHUNK];
    size_t got;
    for (unsigned i = 0; i < TAKES_MAX; i++) {
        switch (channel_take(s->channel, buf, sizeof(buf), &got)) {
        case CHANNEL_NONE:
            return;
        case CHANNEL_CAME:
        case CHANNEL_LEFT:
            s->client = (struct monitor_client){0};
            s->used = 0;
            break;
        case CHANNEL_DATA:
            monitor_session_feed(s, buf, got);
            break;
        }
    }
}
