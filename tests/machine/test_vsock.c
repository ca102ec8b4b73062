/* SPDX-License-Identifier: MIT */
/* The host's side of a vsock, with a guest that sends what it likes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/wire.h"
#include "machine/link.h"
#include "machine/vsock.h"
#include "tests/suite.h"

static char folder[32];
static struct sockaddr_un at;
static struct machine *m;
static struct vsock *k;
static int door;

static uint64_t now(void *opaque) {
    return 0;
}

static void setup(void) {
    char text[200], path[64];
    struct err e = {text, sizeof(text)};
    strcpy(folder, "/tmp/pn-vsock-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    m = calloc(1, sizeof(*m));
    ck_assert_ptr_nonnull(m);
    m->clock = (struct clock){.now = now};
    m->bus = dev_bus_create();
    m->env = (struct dev_env){.bus = m->bus, .clock = &m->clock};
    snprintf(path, sizeof(path), "%s/s", folder);
    ck_assert_int_eq(vsock_create(m, path, &k, &e), 0);
    const struct virtio_vsock_config c = {
        .virtio = {.host = pci_host_create(&m->env), .slot = 1},
        .cid = VSOCK_GUEST_CID,
        .host = vsock_device(k)};
    vsock_attach(k, virtio_vsock_create(&m->env, &c)); /* no driver: it takes nothing */
    at.sun_family = AF_UNIX;
    snprintf(at.sun_path, sizeof(at.sun_path), "%s_1", path);
    door = wire_listen_unix(at.sun_path);
    ck_assert_int_ge(door, 0);
}

static void teardown(void) {
    close(door);
    unlink(at.sun_path);
    dev_bus_destroy(m->bus);
    vsock_destroy(k);
    free(m);
    ck_assert_int_eq(rmdir(folder), 0); /* the socket's file is gone */
}

static struct vsock_header header(uint16_t op, uint32_t port, uint32_t length) {
    return (struct vsock_header){.from_cid = VSOCK_GUEST_CID,
                                 .to_cid = VSOCK_HOST_CID,
                                 .from_port = port,
                                 .to_port = 1,
                                 .length = length,
                                 .type = VSOCK_STREAM,
                                 .op = op,
                                 .room = 1u << 16};
}

static void send_packet(uint16_t op, uint32_t port, const char *data, uint32_t length) {
    const struct dev_vsock d = vsock_device(k);
    const struct vsock_header h = header(op, port, length);
    d.packet(d.opaque, &h, data);
}

START_TEST(what_a_guest_sends_comes_to_who_listens) {
    char got[8] = "";
    send_packet(VSOCK_REQUEST, 7, NULL, 0);
    int fd = accept(door, NULL, NULL);
    ck_assert_int_ge(fd, 0);
    send_packet(VSOCK_DATA, 7, "hello", 5);
    ck_assert_int_eq(recv(fd, got, sizeof(got), 0), 5);
    ck_assert_str_eq(got, "hello");
    send_packet(VSOCK_RESET, 7, NULL, 0);
    ck_assert_int_eq(recv(fd, got, sizeof(got), 0), 0);
    close(fd);
}
END_TEST

/* Nobody reads: what is over the promised room ends the connection, and nothing else. */
START_TEST(a_guest_that_sends_too_much_loses_its_connection) {
    static char data[VSOCK_DATA_MAX];
    send_packet(VSOCK_REQUEST, 7, NULL, 0);
    send_packet(VSOCK_REQUEST, 8, NULL, 0);
    for (unsigned i = 0; i < 200; i++)
        send_packet(VSOCK_DATA, 7, data, sizeof(data));
    send_packet(VSOCK_DATA, 8, "x", 1);
    int first = accept(door, NULL, NULL), second = accept(door, NULL, NULL);
    ck_assert_int_eq(recv(second, data, 1, 0), 1);
    close(first);
    close(second);
}
END_TEST

START_TEST(no_packet_harms) {
    static char data[VSOCK_DATA_MAX];
    const struct dev_vsock d = vsock_device(k);
    uint32_t x = 1;
    for (unsigned n = 0; n < 100000; n++) {
        struct vsock_header h = header((x >> 8) % 9, (x >> 12) % 100, (x >> 4) % 3000);
        h.to_port = (x >> 20) % 3;
        h.from_cid += (x >> 28) == 1;
        h.type += (x >> 28) == 2;
        h.flags = x >> 30;
        d.packet(d.opaque, &h, data);
        x = x * 1664525 + 1013904223;
        if (n % 64 == 0)
            machine_poll_links(m, 0);
        if (n % 1024 == 0)
            d.restart(d.opaque);
        for (int fd; n % 16 == 0 && (fd = accept(door, NULL, NULL)) >= 0;)
            close(fd);
    }
}
END_TEST

SUITE("vsock", .setup = setup, .teardown = teardown,
      .tests = {what_a_guest_sends_comes_to_who_listens,
                a_guest_that_sends_too_much_loses_its_connection, no_packet_harms})
