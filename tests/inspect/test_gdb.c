/* SPDX-License-Identifier: MIT */
/* The gdb stub's packets and registers. tests/inspect/gdb.sh has gdb itself. */
#include <stdlib.h>
#include <string.h>

#include "inspect/gdb_packet.h"
#include "inspect/gdb_regs.h"
#include "tests/suite.h"

/* The last event of these bytes. */
static enum gdb_event feed(struct gdb_reader *r, const char *bytes) {
    enum gdb_event ev = GDB_NOTHING;
    for (; *bytes; bytes++)
        ev = gdb_feed(r, (uint8_t)*bytes);
    return ev;
}

START_TEST(a_packet_comes_out_of_its_frame) {
    struct gdb_reader r = {0};
    ck_assert_int_eq(feed(&r, "$OK#9a"), GDB_PACKET);
    ck_assert_str_eq(r.data, "OK");
    ck_assert_uint_eq(r.size, 2);
    ck_assert_int_eq(feed(&r, "$#00"), GDB_PACKET);
    ck_assert_uint_eq(r.size, 0);
    ck_assert_int_eq(feed(&r, "+"), GDB_ACK);
    ck_assert_int_eq(feed(&r, "-"), GDB_NAK);
    ck_assert_int_eq(feed(&r, "\x03"), GDB_INTERRUPT);
    ck_assert_int_eq(feed(&r, "rubbish"), GDB_NOTHING);
    /* Only where no packet is: 3 is data otherwise. */
    ck_assert_int_eq(feed(&r, "$\x03#03"), GDB_PACKET);
}
END_TEST

START_TEST(what_is_damaged_is_no_packet) {
    struct gdb_reader r = {0};
    ck_assert_int_eq(feed(&r, "$OK#9b"), GDB_DAMAGED);
    ck_assert_int_eq(feed(&r, "$OK#zz"), GDB_DAMAGED);
    ck_assert_int_eq(feed(&r, "$OK#9"), GDB_NOTHING);
    ck_assert_int_eq(feed(&r, "a"), GDB_PACKET);
    ck_assert_int_eq(feed(&r, "$cut$OK#9a"), GDB_PACKET);
    ck_assert_str_eq(r.data, "OK");
}
END_TEST

START_TEST(a_packet_beyond_the_limit_is_damaged_and_the_next_is_not) {
    struct gdb_reader *r = calloc(1, sizeof(*r));
    unsigned sum = 0;
    gdb_feed(r, '$');
    for (unsigned i = 0; i < GDB_PACKET_MAX + 1; i++, sum += 'a')
        ck_assert_int_eq(gdb_feed(r, 'a'), GDB_NOTHING);
    char end[4];
    snprintf(end, sizeof(end), "#%02x", sum & 255);
    ck_assert_int_eq(feed(r, end), GDB_DAMAGED);
    ck_assert_int_eq(feed(r, "$OK#9a"), GDB_PACKET);
    free(r);
}
END_TEST

START_TEST(every_byte_goes_into_a_frame_and_comes_out) {
    struct gdb_reader r = {0};
    char data[256], frame[GDB_FRAME_MAX];
    for (unsigned i = 0; i < 256; i++)
        data[i] = (char)i;
    size_t n = gdb_frame(data, sizeof(data), frame);
    ck_assert_uint_eq(n, 256 + 4 + 4); /* four of them are escaped */
    for (size_t i = 0; i + 1 < n; i++)
        ck_assert_int_eq(gdb_feed(&r, (uint8_t)frame[i]), GDB_NOTHING);
    ck_assert_int_eq(gdb_feed(&r, (uint8_t)frame[n - 1]), GDB_PACKET);
    ck_assert_uint_eq(r.size, 256);
    ck_assert_mem_eq(r.data, data, 256);
}
END_TEST

START_TEST(numbers_are_at_most_64_bits_and_hex_is_whole) {
    const char *p = "ffffFFFFffffffff,", *q = "10000000000000000", *none = "x";
    uint64_t v;
    uint8_t b[2];
    ck_assert(gdb_number(&p, &v));
    ck_assert_uint_eq(v, UINT64_MAX);
    ck_assert_int_eq(*p, ',');
    ck_assert(!gdb_number(&q, &v));
    ck_assert(!gdb_number(&none, &v));
    ck_assert(gdb_unhex("0aFf", 4, b, 2));
    ck_assert_uint_eq(b[0], 10);
    ck_assert_uint_eq(b[1], 255);
    ck_assert(!gdb_unhex("0aF", 3, b, 2));
    ck_assert(!gdb_unhex("0aFg", 4, b, 2));
}
END_TEST

/* ---- Registers ---- */

START_TEST(every_register_takes_what_it_is_given) {
    struct pn_cpu_state *s = calloc(1, sizeof(*s));
    unsigned registers = 0;
    for (unsigned nr = 0; nr < gdb_reg_end(); nr++) {
        uint8_t in[GDB_REG_BYTES], out[GDB_REG_BYTES];
        size_t n = gdb_reg_get(s, nr, out);
        if (!n)
            continue;
        registers++;
        ck_assert(!gdb_reg_set(s, nr, in, n + 1));
        memset(in, 0, sizeof(in));
        for (size_t i = 0; i < n; i++)
            in[i] = (uint8_t)(nr + i + 1);
        if (nr == 34) /* the tags, of which empty and not is kept: all are empty */
            in[0] = in[1] = 0xff;
        if (nr >= 18 && nr < 24) /* selectors */
            in[2] = in[3] = 0;
        if (nr >= 32 && nr < 40 && nr != 36 && nr != 38) /* 16 bits of x87's control */
            in[2] = in[3] = 0;
        ck_assert(gdb_reg_set(s, nr, in, n));
        ck_assert_uint_eq(gdb_reg_get(s, nr, out), n);
        ck_assert_msg(!memcmp(in, out, n), "register %u", nr);
    }
    ck_assert_uint_gt(registers, 73);
    ck_assert(!gdb_reg_set(s, gdb_reg_end(), NULL, 8));
    free(s);
}
END_TEST

/* Each number stands in the description once, with the size that it has. */
START_TEST(the_description_names_what_there_is) {
    struct pn_cpu_state *s = calloc(1, sizeof(*s));
    char *xml = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&xml, &size);
    gdb_reg_xml(f);
    fclose(f);
    for (unsigned nr = 0; nr < gdb_reg_end(); nr++) {
        uint8_t out[GDB_REG_BYTES];
        char at[32];
        unsigned bits = 0;
        size_t n = gdb_reg_get(s, nr, out);
        snprintf(at, sizeof(at), "regnum=\"%u\"", nr);
        const char *p = strstr(xml, at);
        ck_assert_msg((p != NULL) == (n != 0), "register %u", nr);
        if (!p)
            continue;
        ck_assert_msg(!strstr(p + 1, at), "register %u twice", nr);
        while (strncmp(p, "bitsize=", 8) != 0)
            p--;
        ck_assert_int_eq(sscanf(p, "bitsize=\"%u\"", &bits), 1);
        ck_assert_uint_eq(bits, 8 * n);
    }
    free(xml);
    free(s);
}
END_TEST

/* gdb's features/i386/64bit-ssp.xml, of gdb 17. */
START_TEST(the_users_shadow_stack_pointer_is_ssp_in_ring_3) {
    struct pn_cpu_state *s = calloc(1, sizeof(*s));
    char *xml = NULL;
    size_t size = 0;
    uint8_t v[GDB_REG_BYTES];
    unsigned nr = 0;
    FILE *f = open_memstream(&xml, &size);
    gdb_reg_xml(f);
    fclose(f);
    const char *p =
        strstr(xml, "<feature name=\"org.gnu.gdb.i386.pl3_ssp\">\n<reg name=");
    ck_assert_ptr_nonnull(p);
    p = strstr(p, "<reg");
    ck_assert_int_eq(sscanf(p,
                            "<reg name=\"pl3_ssp\" bitsize=\"64\" type=\"data_ptr\" "
                            "regnum=\"%u\"",
                            &nr),
                     1);
    s->ssp = 1;
    s->msr[PN_MSR_pl3_ssp] = 2;
    ck_assert_uint_eq(gdb_reg_get(s, nr, v), 8);
    ck_assert_uint_eq(v[0], 2);
    s->seg[PN_SS].attr = 0xc0f3;
    gdb_reg_get(s, nr, v);
    ck_assert_uint_eq(v[0], 1);
    v[0] = 3;
    ck_assert(gdb_reg_set(s, nr, v, 8));
    ck_assert_uint_eq(s->ssp, 3);
    ck_assert_uint_eq(s->msr[PN_MSR_pl3_ssp], 2);
    free(xml);
    free(s);
}
END_TEST

START_TEST(x87_in_its_initial_state_reads_as_after_fninit) {
    struct pn_cpu_state *s = calloc(1, sizeof(*s));
    static const uint8_t one[10] = {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f};
    uint8_t v[GDB_REG_BYTES];
    memset(s->xsave, 0xa5, 512); /* what is in the area then counts for nothing */
    memset(s->xsave + 512, 0, 64);
    gdb_reg_get(s, 32, v);
    ck_assert_uint_eq(v[0] | v[1] << 8, 0x37f);
    gdb_reg_get(s, 34, v);
    ck_assert_uint_eq(v[0] | v[1] << 8, 0xffff);
    gdb_reg_get(s, 24, v);
    ck_assert_uint_eq(v[9], 0);
    gdb_reg_set(s, 24, one, 10);
    ck_assert_uint_eq(s->xsave[512], 1); /* in use */
    gdb_reg_get(s, 32, v);
    ck_assert_uint_eq(v[0] | v[1] << 8, 0x37f);
    /* TOP 7: st0 is R7, valid; R0 (st1) holds a zero, R6 (st7) an infinity. */
    s->xsave[3] = 7 << 3;
    s->xsave[4] = 1 << 7 | 1 << 0 | 1 << 6;
    memset(s->xsave + 32 + 16, 0, 10);
    memcpy(s->xsave + 32 + 7 * 16, one, 10);
    s->xsave[32 + 7 * 16 + 9] = 0x7f;
    s->xsave[32 + 7 * 16 + 8] = 0xff;
    gdb_reg_get(s, 34, v);
    ck_assert_uint_eq(v[0] | v[1] << 8, 0x2ffd); /* 0 2 3 3 3 3 3 1 */
    free(s);
}
END_TEST

SUITE("inspect.gdb",
      .tests = {a_packet_comes_out_of_its_frame, what_is_damaged_is_no_packet,
                a_packet_beyond_the_limit_is_damaged_and_the_next_is_not,
                every_byte_goes_into_a_frame_and_comes_out,
                numbers_are_at_most_64_bits_and_hex_is_whole,
                every_register_takes_what_it_is_given,
                the_description_names_what_there_is,
                the_users_shadow_stack_pointer_is_ssp_in_ring_3,
                x87_in_its_initial_state_reads_as_after_fninit})
