/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the gdb stub, over a socket and on a machine that never runs: whatever a client
 * sends, each answer is a whole packet, and once the client has left it holds nothing.
 *
 * Byte 0 odd: the rest goes as it is. Even: each line of the rest goes as a packet, so that
 * random bytes reach what is behind the checksum.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "inspect/gdb.h"
#include "inspect/gdb_packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHUNK     48u /* its answers fit into the socket */
#define INPUT_MAX 2048u

static struct world {
    struct machine *m;
    struct channel *channel;
    struct gdb *gdb;
    char path[64];
} world;

static void clean_up(void) {
    gdb_destroy(world.gdb);
    channel_close(world.channel);
    machine_destroy(world.m);
}

static void prepare(void) {
    static const uint8_t halt[] = {0xf4};
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    struct machine_config cfg = {.engine = pn_engine_find("shadow"),
                                 .ram = 2 << 20,
                                 .cpus = 2,
                                 .kernel_blob = halt,
                                 .kernel_blob_size = sizeof(halt),
                                 .format = FMT_FLAT,
                                 .flat_addr = 0x100000,
                                 .flat_bits = 64};
    pn_mmu_options_default(&cfg.mmu);
    snprintf(world.path, sizeof(world.path), "/tmp/fuzz-gdb.%d", (int)getpid());
    if (machine_create(&cfg, &world.m, text, sizeof(text)) ||
        channel_open(world.path, &world.channel, &e))
        abort();
    const struct machine_history_config history = {.most = 2, .distance = 1000000};
    if (machine_history_begin(world.m, &history, &e))
        abort();
    const struct gdb_config g = {.machine = world.m, .channel = world.channel};
    if (gdb_create(&g, &world.gdb))
        abort();
    atexit(clean_up);
}

static int come(void) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    memcpy(at.sun_path, world.path, strlen(world.path));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at)))
        abort();
    gdb_serve(world.gdb);
    if (!gdb_holds(world.gdb))
        abort();
    return fd;
}

static void check_answers(int fd, struct gdb_reader *r) {
    uint8_t buf[4096];
    ssize_t n;
    while ((n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
        for (ssize_t i = 0; i < n; i++)
            if (gdb_feed(r, buf[i]) == GDB_DAMAGED)
                abort();
}

static void talk(int fd, const char *bytes, size_t size) {
    struct gdb_reader *r = calloc(1, sizeof(*r));
    if (!r)
        abort();
    for (size_t at = 0; at < size; at += CHUNK) {
        size_t n = size - at < CHUNK ? size - at : CHUNK;
        if (send(fd, bytes + at, n, MSG_NOSIGNAL) < 0)
            break; /* it was sent away: D, k */
        gdb_serve(world.gdb);
        check_answers(fd, r);
    }
    free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char out[INPUT_MAX * 6], frame[GDB_FRAME_MAX];
    size_t n = 0;
    if (!size)
        return 0;
    if (!world.m)
        prepare();
    bool raw = data[0] & 1;
    const char *p = (const char *)data + 1;
    size_t left = size - 1 < INPUT_MAX ? size - 1 : INPUT_MAX;
    while (!raw && left) {
        const char *end = memchr(p, '\n', left);
        size_t length = end ? (size_t)(end - p) : left, framed;
        framed = gdb_frame(p, length, frame);
        memcpy(out + n, frame, framed);
        n += framed;
        left -= length + (end != NULL);
        p += length + (end != NULL);
    }
    int fd = come();
    talk(fd, raw ? p : out, raw ? left : n);
    close(fd);
    gdb_serve(world.gdb);
    if (gdb_holds(world.gdb))
        abort();
    return 0;
}
