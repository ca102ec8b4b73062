/* SPDX-License-Identifier: MIT */
/*
 * MC146818 real-time clock and 128 bytes of CMOS at 0x70/0x71, gsi 8.
 *
 * The time is epoch + clock: seconds = base_sec + (now - base_ns) / 1 s. It is computed
 * when asked for; timers are armed only for interrupts that are enabled.
 *
 * Invariants
 * 1. While register B's SET bit or the divider's reset holds the clock, `held` is true,
 *    the time registers are plain memory, and base_* are set anew when it is let go.
 * 2. Flags AF, PF, UF of register C are brought up to now by sync() before register C or
 *    an enable is looked at; the line is the level of IRQF.
 * 3. base_sec stays within years 1..9999 whatever is written: every field is clamped.
 * 4. The day of the week is a counter of its own, from 1 to 7, that the date does not set
 *    (Motorola MC146818 data sheet, "Time, Calendar, and Alarm Locations").
 */
#include <string.h>

#include "base/ticks.h"
#include "dev/dev.h"

#define GSI         8u
#define CRYSTAL_HZ  32768u
#define UIP_NS      244141u /* 8 ticks before the second's end */
#define DAY         86400
#define SEC_MIN     (-62135596800) /* 0001-01-01 00:00:00 */
#define SEC_MAX     253402300799   /* 9999-12-31 23:59:59 */
#define NO_ALARM    INT64_MAX
#define DONT_CARE   (-1)
#define NEVER_MATCH (-2)

enum { R_SEC, R_SEC_ALARM, R_MIN, R_MIN_ALARM, R_HOUR, R_HOUR_ALARM };
enum { R_WDAY = 6, R_MDAY, R_MONTH, R_YEAR, R_A, R_B, R_C, R_D, R_CENTURY = 0x32 };

#define A_UIP     0x80u
#define A_DIV_RST 0x60u /* 11x: the divider is held in reset */
#define A_RATE    0x0fu

#define B_SET  0x80u
#define B_PIE  0x40u
#define B_AIE  0x20u
#define B_UIE  0x10u
#define B_BIN  0x04u
#define B_24H  0x02u
#define C_IRQF 0x80u
#define C_PF   0x40u
#define C_AF   0x20u
#define C_UF   0x10u
#define D_VRT  0x80u

struct rtc_state {
    uint8_t cmos[128];
    uint8_t index;
    uint8_t line;
    uint8_t wday_ahead; /* of the day of the week that the date has: 0..6 */
    int64_t base_sec;
    uint64_t base_ns;
    uint64_t seen_sec;    /* seconds since base_ns that sync() has seen */
    uint64_t seen_period; /* periods of the rate since clock 0, likewise */
};

struct rtc_config {
    int64_t epoch;
    uint64_t ram_below_4g, ram_above_4g;
};

struct rtc {
    struct device dev;
    struct rtc_config cfg;
    struct rtc_state s;
    int64_t alarm; /* next second that matches, or NO_ALARM: find_alarm */
};

struct date {
    int year, month, day, hour, min, sec, wday; /* month 1..12, wday 1..7, Sunday 1 */
};

/* ---- Calendar (proleptic Gregorian) ---- */

/* Days from 1970-01-01 to the 1st of March of a year. */
static int64_t days_to_march(int64_t year) {
    return year * 365 + year / 4 - year / 100 + year / 400 - 719468;
}

/* Days from March 1st to the 1st of a month, months counted from March = 0. */
static int month_offset(int m) {
    return (153 * m + 2) / 5;
}

static int64_t to_seconds(const struct date *d) {
    int m = (d->month + 9) % 12;
    int64_t year = d->year - (d->month <= 2);
    int64_t days = days_to_march(year) + month_offset(m) + d->day - 1;
    return days * DAY + d->hour * 3600 + d->min * 60 + d->sec;
}

static struct date to_date(int64_t sec) {
    int64_t days = sec / DAY, rest = sec % DAY, year;
    struct date d;
    int in_year, m;
    if (rest < 0) {
        rest += DAY;
        days--;
    }
    year = (days + 719468) * 400 / 146097; /* right, or one too late */
    while (days_to_march(year) > days)
        year--;
    while (days_to_march(year + 1) <= days)
        year++;
    in_year = (int)(days - days_to_march(year));
    m = (5 * in_year + 2) / 153;
    d.day = in_year - month_offset(m) + 1;
    d.month = (m + 2) % 12 + 1;
    d.year = (int)(year + (d.month <= 2));
    d.hour = (int)(rest / 3600);
    d.min = (int)(rest / 60 % 60);
    d.sec = (int)(rest % 60);
    d.wday = (int)((days % 7 + 11) % 7) + 1; /* 1970-01-01 was a Thursday */
    return d;
}

/* ---- Fields ---- */

static uint8_t encode(const struct rtc *r, int v) {
    return (uint8_t)(r->s.cmos[R_B] & B_BIN ? v : v / 10 << 4 | v % 10);
}

static int decode(const struct rtc *r, uint8_t v) {
    return r->s.cmos[R_B] & B_BIN ? v : (v >> 4) * 10 + (v & 15);
}

static uint8_t encode_hour(const struct rtc *r, int h) {
    if (r->s.cmos[R_B] & B_24H)
        return encode(r, h);
    return (uint8_t)(encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? 0x80 : 0));
}

static int decode_hour(const struct rtc *r, uint8_t v) {
    if (r->s.cmos[R_B] & B_24H)
        return decode(r, v);
    return decode(r, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

static void store_time(struct rtc *r, int64_t sec) {
    struct date d = to_date(sec);
    r->s.cmos[R_SEC] = encode(r, d.sec);
    r->s.cmos[R_MIN] = encode(r, d.min);
    r->s.cmos[R_HOUR] = encode_hour(r, d.hour);
    r->s.cmos[R_WDAY] = encode(r, (d.wday - 1 + r->s.wday_ahead) % 7 + 1);
    r->s.cmos[R_MDAY] = encode(r, d.day);
    r->s.cmos[R_MONTH] = encode(r, d.month);
    r->s.cmos[R_YEAR] = encode(r, d.year % 100);
    r->s.cmos[R_CENTURY] = encode(r, d.year / 100 % 100);
}

static int clamp(int v, int low, int high) {
    return v < low ? low : v > high ? high : v;
}

static int64_t load_time(const struct rtc *r) {
    struct date d = {.sec = clamp(decode(r, r->s.cmos[R_SEC]), 0, 59),
                     .min = clamp(decode(r, r->s.cmos[R_MIN]), 0, 59),
                     .hour = clamp(decode_hour(r, r->s.cmos[R_HOUR]), 0, 23),
                     .day = clamp(decode(r, r->s.cmos[R_MDAY]), 1, 31),
                     .month = clamp(decode(r, r->s.cmos[R_MONTH]), 1, 12)};
    d.year = clamp(decode(r, r->s.cmos[R_CENTURY]), 0, 99) * 100 +
             clamp(decode(r, r->s.cmos[R_YEAR]), 0, 99);
    d.year = clamp(d.year, 1, 9999);
    return to_seconds(&d);
}

/* ---- Time ---- */

static bool held(const struct rtc *r) {
    return r->s.cmos[R_B] & B_SET || (r->s.cmos[R_A] & A_DIV_RST) == A_DIV_RST;
}

static uint64_t since_base(const struct rtc *r) {
    uint64_t now = clock_now(r->dev.env.clock);
    return now > r->s.base_ns ? now - r->s.base_ns : 0;
}

/* The clock goes on from the registers, `phase` ns into the present second. */
static void release(struct rtc *r, uint64_t phase) {
    uint64_t now = clock_now(r->dev.env.clock);
    r->s.base_sec = load_time(r);
    int wday = clamp(decode(r, r->s.cmos[R_WDAY]), 1, 7);
    r->s.wday_ahead = (uint8_t)((wday - to_date(r->s.base_sec).wday + 7) % 7);
    r->s.base_ns = now > phase ? now - phase : 0;
    r->s.seen_sec = 0;
}

static int64_t seconds(const struct rtc *r) {
    int64_t sec = r->s.base_sec + (int64_t)(since_base(r) / NS_PER_SEC);
    return sec > SEC_MAX ? SEC_MAX : sec;
}

static void refresh(struct rtc *r) {
    if (!held(r))
        store_time(r, seconds(r));
}

/* ---- Alarm and periodic interrupt ---- */

static int alarm_field(int value, uint8_t raw, int limit) {
    if ((raw & 0xc0) == 0xc0)
        return DONT_CARE;
    return value < limit ? value : NEVER_MATCH;
}

static bool match(int want, int is) {
    return want == DONT_CARE || want == is;
}

/* The next second after `sec` that the alarm registers name: at most a day away. */
static void find_alarm(struct rtc *r) {
    const uint8_t *raw = r->s.cmos;
    int s = alarm_field(decode(r, raw[R_SEC_ALARM]), raw[R_SEC_ALARM], 60);
    int m = alarm_field(decode(r, raw[R_MIN_ALARM]), raw[R_MIN_ALARM], 60);
    int h = alarm_field(decode_hour(r, raw[R_HOUR_ALARM]), raw[R_HOUR_ALARM], 24);
    int64_t t;
    r->alarm = NO_ALARM;
    if (held(r) || s == NEVER_MATCH || m == NEVER_MATCH || h == NEVER_MATCH)
        return;
    /* By seconds to the minute, by minutes to the hour, by hours to the day. */
    t = r->s.base_sec + (int64_t)r->s.seen_sec + 1;
    for (int64_t end = t + DAY; t <= end;) {
        int of_day = (int)(t % DAY < 0 ? t % DAY + DAY : t % DAY);
        if (!match(h, of_day / 3600)) {
            t += 3600 - of_day % 3600;
        } else if (!match(m, of_day / 60 % 60)) {
            t += 60 - of_day % 60;
        } else if (!match(s, of_day % 60)) {
            t++;
        } else {
            r->alarm = t;
            return;
        }
    }
}

/* Ticks of the crystal per period; 0: off. Rates 1 and 2 are 256 and 128 Hz. */
static unsigned period(const struct rtc *r) {
    unsigned rate = r->s.cmos[R_A] & A_RATE;
    if (!rate || (r->s.cmos[R_A] & A_DIV_RST) == A_DIV_RST)
        return 0;
    return 1u << ((rate <= 2 ? rate + 7 : rate) - 1);
}

static uint64_t periods(const struct rtc *r) {
    unsigned n = period(r);
    return n ? ticks_at(clock_now(r->dev.env.clock), CRYSTAL_HZ) / n : 0;
}

/* Bring the flags up to now. */
static void sync(struct rtc *r) {
    uint64_t period_now = periods(r);
    if (period_now > r->s.seen_period)
        r->s.cmos[R_C] |= C_PF;
    r->s.seen_period = period_now;
    if (held(r))
        return;
    uint64_t sec = since_base(r) / NS_PER_SEC;
    if (sec <= r->s.seen_sec)
        return;
    r->s.seen_sec = sec;
    r->s.cmos[R_C] |= C_UF;
    if (r->alarm <= r->s.base_sec + (int64_t)sec) {
        r->s.cmos[R_C] |= C_AF;
        find_alarm(r);
        if (r->s.cmos[R_B] & B_AIE)
            dev_ask(&r->dev, DEV_ALARM, 0);
    }
}

/* For the next interrupt that is enabled. */
static void arm(struct rtc *r) {
    uint8_t b = r->s.cmos[R_B];
    uint64_t next = CLOCK_NEVER, at = CLOCK_NEVER;
    if (b & B_PIE && period(r))
        next = ticks_ns((r->s.seen_period + 1) * period(r), CRYSTAL_HZ);
    if (!held(r) && b & B_UIE)
        at = r->s.seen_sec + 1;
    else if (!held(r) && b & B_AIE && r->alarm != NO_ALARM)
        at = (uint64_t)(r->alarm - r->s.base_sec);
    if (at != CLOCK_NEVER) {
        at = at > UINT64_MAX / NS_PER_SEC ? CLOCK_NEVER
                                          : ns_add(r->s.base_ns, at * NS_PER_SEC);
        next = at < next ? at : next;
    }
    dev_arm(&r->dev, next);
}

/* Recompute the line and the next deadline. */
static void update(struct rtc *r) {
    uint8_t c = r->s.cmos[R_C];
    bool line = c & r->s.cmos[R_B] & (C_PF | C_AF | C_UF);
    r->s.cmos[R_C] = (uint8_t)((c & ~C_IRQF) | (line ? C_IRQF : 0));
    arm(r);
    dev_line(&r->dev, &r->s.line, GSI, line);
}

static void on_timer(void *opaque) {
    struct rtc *r = opaque;
    sync(r);
    update(r);
}

/* ---- Registers ---- */

static bool is_alarm(unsigned n) {
    return n == R_SEC_ALARM || n == R_MIN_ALARM || n == R_HOUR_ALARM;
}

static bool is_time(unsigned n) {
    return (n <= R_YEAR && !is_alarm(n)) || n == R_CENTURY;
}

static uint8_t read_reg(struct rtc *r, unsigned n) {
    uint8_t value;
    if (is_time(n))
        refresh(r);
    switch (n) {
    case R_A:
        if (!held(r) && since_base(r) % NS_PER_SEC >= NS_PER_SEC - UIP_NS)
            return r->s.cmos[R_A] | A_UIP;
        break;
    case R_C: /* reading clears */
        sync(r);
        update(r);
        value = r->s.cmos[R_C];
        r->s.cmos[R_C] = 0;
        update(r);
        return value;
    case R_D:
        return D_VRT;
    }
    return r->s.cmos[n];
}

static void write_time(struct rtc *r, unsigned n, uint8_t value) {
    uint64_t phase = since_base(r) % NS_PER_SEC;
    refresh(r);
    r->s.cmos[n] = value;
    if (held(r))
        return;
    release(r, phase);
    find_alarm(r);
}

/* Registers A and B: what holds or releases the clock, and how fields are encoded. */
static void write_control(struct rtc *r, unsigned n, uint8_t value) {
    bool was = held(r), reset = (r->s.cmos[R_A] & A_DIV_RST) == A_DIV_RST;
    uint64_t phase = since_base(r) % NS_PER_SEC;
    refresh(r);
    if (n == R_A)
        value &= (uint8_t)~A_UIP;
    else if (value & B_SET)
        value &= (uint8_t)~B_UIE; /* SET clears UIE */
    r->s.cmos[n] = value;
    if (n == R_A)
        r->s.seen_period = periods(r);
    if (was && !held(r))
        /* The first update comes half a second after the divider is let go. */
        release(r, reset ? NS_PER_SEC / 2 : phase);
    find_alarm(r);
}

static void write_reg(struct rtc *r, unsigned n, uint8_t value) {
    sync(r);
    if (is_time(n)) {
        write_time(r, n, value);
    } else if (is_alarm(n)) {
        r->s.cmos[n] = value;
        find_alarm(r);
    } else if (n == R_A || n == R_B) {
        write_control(r, n, value);
    } else if (n != R_C && n != R_D) {
        r->s.cmos[n] = value;
        return;
    }
    update(r);
}

static uint64_t rtc_read(void *dev, uint64_t offset, unsigned size) {
    struct rtc *r = dev;
    return offset ? read_reg(r, r->s.index) : 0xff;
}

static void rtc_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct rtc *r = dev;
    if (offset)
        write_reg(r, r->s.index, (uint8_t)value);
    else
        r->s.index = value & 0x7f; /* bit 7 masks NMI: there is none to mask */
}

static const struct dev_ops rtc_ops = {"rtc", 1, 1, rtc_read, rtc_write};

static void put16(struct rtc *r, unsigned n, uint64_t value, uint64_t max) {
    value = value < max ? value : max;
    r->s.cmos[n] = (uint8_t)value;
    r->s.cmos[n + 1] = (uint8_t)(value >> 8);
}

/* Memory sizes where a PC's firmware leaves them. */
static void store_ram(struct rtc *r, uint64_t below, uint64_t above) {
    const uint64_t kib = 1024, mib = 1024 * kib;
    uint64_t ext = below > mib ? (below - mib) / kib : 0;
    uint64_t high = below > 16 * mib ? (below - 16 * mib) / (64 * kib) : 0;
    put16(r, 0x15, 640, 640);
    put16(r, 0x17, ext, 0xffff);
    put16(r, 0x30, ext, 0xffff);
    put16(r, 0x34, high, 0xffff);
    above /= 64 * kib;
    if (above > 0xffffff)
        above = 0xffffff;
    put16(r, 0x5b, above & 0xffff, 0xffff);
    r->s.cmos[0x5d] = (uint8_t)(above >> 16);
    r->s.cmos[0x14] = 0x02; /* equipment: an FPU */
}

/* ---- As a device ---- */

static const struct dev_range rtc_ranges[] = {{DEV_PIO, 0x70, 2, &rtc_ops}};

static int rtc_configure(void *dev, const void *config) {
    ((struct rtc *)dev)->cfg = *(const struct rtc_config *)config;
    return 0;
}

static void rtc_reset(void *dev) {
    struct rtc *r = dev;
    int64_t epoch = r->cfg.epoch;
    r->s = (struct rtc_state){.base_sec = epoch < 0         ? 0
                                          : epoch > SEC_MAX ? SEC_MAX
                                                            : epoch};
    r->s.cmos[R_A] = 0x26; /* 32768 Hz crystal, 1024 Hz rate */
    r->s.cmos[R_B] = B_24H;
    store_ram(r, r->cfg.ram_below_4g, r->cfg.ram_above_4g);
    find_alarm(r);
}

static bool rtc_check(const void *dev, const void *state) {
    const struct rtc *r = dev;
    const struct rtc_state *s = state;
    uint64_t now = clock_now(r->dev.env.clock);
    return s->index < sizeof s->cmos && s->line <= 1 && s->wday_ahead < 7 &&
           s->base_sec >= SEC_MIN && s->base_sec <= SEC_MAX && s->base_ns <= now &&
           s->seen_sec <= (now - s->base_ns) / NS_PER_SEC &&
           s->seen_period <= ticks_at(now, CRYSTAL_HZ);
}

static void rtc_kept(void *dev) {
    struct rtc *r = dev;
    r->s.line = 0;
    update(r);
}

static void rtc_settle(void *dev) {
    find_alarm(dev);
    arm(dev);
}

static const struct dev_class rtc_class = {
    .name = "rtc",
    .version = 1,
    DEV_STATE(struct rtc, s),
    DEV_RANGES(rtc_ranges),
    .create = rtc_configure,
    .reset = rtc_reset,
    .check = rtc_check,
    .settle = rtc_settle,
    .expire = on_timer,
    .kept = rtc_kept,
};

struct rtc *rtc_create(const struct dev_env *env, int64_t epoch, uint64_t ram_below_4g,
                       uint64_t ram_above_4g) {
    const struct rtc_config cfg = {epoch, ram_below_4g, ram_above_4g};
    return dev_create(&rtc_class, env, 0, &cfg);
}

void rtc_put(struct rtc *r, unsigned at, uint8_t value) {
    if (at >= RTC_FREE && at < sizeof(r->s.cmos) && at != R_CENTURY)
        r->s.cmos[at] = value;
}
