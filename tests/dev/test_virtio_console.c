/* SPDX-License-Identifier: MIT */
/* A console with ports: what the driver is told, bytes both ways, and drivers that break rules. */
#include "driver.h"
#include "tests/suite.h"

#include <string.h>

#define SLOT 1u
#define DATA (DRV_BUFFERS + 0x100u)

static struct world {
    struct fx fx;
    struct drv in, out, control_in, control_out;
    struct virtio_console *c;
    size_t room, count[2];
    uint8_t got[2][CONSOLE_SEND_MOST];
} w;

static size_t room(void *opaque, unsigned port) {
    return w.room;
}

static void take(void *opaque, unsigned port, const void *buf, size_t size) {
    ck_assert_uint_lt(port, 2);
    ck_assert_uint_le(w.count[port] + size, CONSOLE_SEND_MOST);
    memcpy(w.got[port] + w.count[port], buf, size);
    w.count[port] += size;
}

static void setup(void) {
    memset(&w, 0, sizeof(w));
    fx_init(&w.fx);
    w.room = CONSOLE_SEND_MOST;
    const struct virtio_console_config cfg = {
        .virtio = {.host = pci_host_create(&w.fx.env), .slot = SLOT},
        .host = {room, take, NULL},
        .ports = 2,
        .port = {{"", true}, {"second", false}}};
    w.c = virtio_console_create(&w.fx.env, &cfg);
    ck_assert_ptr_nonnull(w.c);
}

static void teardown(void) {
    fx_done(&w.fx);
}

/* One queue alone: the fixture's areas are enough for that. */
static void begin(struct drv *d, unsigned queue, int packed) {
    drv_begin(d, &w.fx, SLOT, queue, (packed ? 0 : DRV_PACKED_BIT) | DRV_EVENT_BIT);
}

/* A control message of the driver's. */
static void say(uint32_t id, uint16_t event, uint16_t value) {
    const struct {
        uint32_t id;
        uint16_t event, value;
    } m = {id, event, value};
    const struct drv_segment s = {DRV_BUFFERS, 8, DRV_READ};
    memcpy(w.fx.mem + DRV_BUFFERS, &m, 8);
    ck_assert_int_eq(drv_do(&w.control_out, &s, 1), 0);
}

/* What the device says next. */
static void hears(uint32_t id, uint16_t event, uint16_t value, int64_t size) {
    const struct {
        uint32_t id;
        uint16_t event, value;
    } m = {id, event, value};
    const struct drv_segment s = {DATA, 64, DRV_WRITE};
    ck_assert_int_eq(drv_do(&w.control_in, &s, 1), size);
    ck_assert_int_eq(memcmp(w.fx.mem + DATA, &m, 8), 0);
}

START_TEST(a_buffer_is_sent_when_the_host_has_room) {
    const struct drv_segment s[] = {{DATA, 3, DRV_READ}, {DATA + 0x100, 2, DRV_READ}};
    begin(&w.out, 1, _i);
    memcpy(w.fx.mem + DATA, "one", 3);
    memcpy(w.fx.mem + DATA + 0x100, "+2", 2);
    ck_assert_int_eq(drv_do(&w.out, s, 2), 0);
    ck_assert_uint_eq(w.count[0], 5);
    ck_assert_int_eq(memcmp(w.got[0], "one+2", 5), 0);
    w.room = CONSOLE_SEND_MOST - 1;
    ck_assert_int_eq(drv_do(&w.out, s, 2), -1);
    ck_assert_uint_eq(w.count[0], 5);
    w.room++;
    virtio_console_room(w.c, 0);
    ck_assert_int_eq(drv_take(&w.out), 0);
    ck_assert_uint_eq(w.count[0], 10);
}
END_TEST

START_TEST(bytes_come_where_there_is_a_buffer) {
    const struct drv_segment s = {DATA, 4, DRV_WRITE};
    begin(&w.in, 0, _i);
    ck_assert(!virtio_console_listens(w.c, 0));
    ck_assert_uint_eq(virtio_console_receive(w.c, 0, "hello", 5), 0);
    ck_assert_int_eq(drv_do(&w.in, &s, 1), -1);
    ck_assert(virtio_console_listens(w.c, 0));
    ck_assert_uint_eq(virtio_console_receive(w.c, 0, "hello", 5), 4);
    ck_assert_int_eq(drv_take(&w.in), 4);
    ck_assert_int_eq(memcmp(w.fx.mem + DATA, "hell", 4), 0);
}
END_TEST

START_TEST(each_port_is_announced_named_and_opened) {
    drv_begin(&w.control_out, &w.fx, SLOT, 3, (_i ? 0 : DRV_PACKED_BIT) | DRV_EVENT_BIT);
    drv_more(&w.control_in, &w.control_out, 2);
    say(0, 0, 1); /* the device is ready */
    hears(0, 1, 1, 8);
    hears(1, 1, 1, 8);
    virtio_console_connect(w.c, 1, true);
    hears(1, 6, 1, 8);
    say(0, 3, 1); /* a port is */
    hears(0, 4, 1, 8);
    say(1, 3, 1);
    hears(1, 7, 1, 8 + 7);
    ck_assert_str_eq((char *)w.fx.mem + DATA + 8, "second");
    hears(1, 6, 1, 8);
    say(7, 3, 1); /* there is no such port */
    virtio_console_connect(w.c, 1, false);
    hears(1, 6, 0, 8);
}
END_TEST

START_TEST(memory_that_is_not_there_ends_the_device) {
    const struct drv_segment s = {FX_MEM - 4, 16, DRV_READ};
    for (unsigned queue = 1; queue <= 3; queue += 2) {
        begin(&w.out, queue, _i);
        ck_assert_int_eq(drv_do(&w.out, &s, 1), -1);
        ck_assert(drv_status(&w.out) & DRV_NEEDS_RESET);
    }
}
END_TEST

SUITE("virtio_console", .setup = setup, .teardown = teardown,
      .loops = {{a_buffer_is_sent_when_the_host_has_room, 2},
                {bytes_come_where_there_is_a_buffer, 2},
                {each_port_is_announced_named_and_opened, 2},
                {memory_that_is_not_there_ends_the_device, 2}})
