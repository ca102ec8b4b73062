/* SPDX-License-Identifier: MIT */
/*
 * The monitor at a channel: lines come, answers go. There is neither greeting nor prompt.
 *
 * Whatever a client sends, the guest runs on: a line that is too long is answered with an
 * error, half a line goes with the client. `stop` outlasts the client, as under QEMU: another
 * one may say `cont`.
 */
#pragma once

#include "base/channel.h"
#include "inspect/monitor.h"

struct monitor_session {
    struct monitor *mon;
    struct channel *channel;
    struct monitor_client client;
    char line[MONITOR_LINE_MAX + 1]; /* a byte more than a line may have */
    size_t used;                     /* what is beyond is passed over */
};

/* Bytes of the client, who has just come with a clean *s: mon and channel are set. */
void monitor_session_feed(struct monitor_session *s, const char *bytes, size_t size);
/* Answer what has come. The machine stands. */
void monitor_session_serve(struct monitor_session *s);
