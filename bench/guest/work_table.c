/* SPDX-License-Identifier: MIT */
/* Workloads that edit the guest's page tables. */
#include "user.h"

/* Page i is mapped to frame (i + shift) % n, whose first word says so. */
/* Read a word of `count` pages, here and there. */
static uint64_t read_scattered(uint64_t n, uint64_t count) {
    static uint64_t place;
    uint64_t sum = 0;
    for (; count; count--) {
        place = place * 6364136223846793005ul + 1442695040888963407ul;
        sum += *(volatile uint64_t *)at(REGION + (place >> 33) % n * PAGE);
    }
    return sum;
}

uint64_t work_remap(uint64_t *sum) {
    uint64_t n = ARG(remap, pages), rounds = ARG(remap, rounds),
             batch = ARG(remap, batch), more = ARG(remap, touches) - 1;
    uint64_t span = ARG(remap, span) > n ? ARG(remap, span) : n;
    uint64_t pa = region(span * PAGE, 0), wrong = 0;
    uint64_t flags = ARG(remap, flush) ? MAP_FLUSH : MAP_INVLPG;
    for (uint64_t i = 0; i < span; i++)
        *at(REGION + i * PAGE) = i;
    begin();
    for (uint64_t r = 1; r <= rounds; r++)
        for (uint64_t i = 0; i < n;) {
            uint64_t frame = (i + r) % n, m = batch;
            m = m < n - i ? m : n - i;
            m = m < n - frame ? m : n - frame;
            call4(CALL_UNMAP, REGION + i * PAGE, m, flags, 0);
            call4(CALL_MAP, REGION + i * PAGE, pa + frame * PAGE, m, flags | MAP_WRITE);
            *sum = mix(*sum, read_scattered(span, m * more));
            for (; m; m--, i++, frame++) {
                volatile uint64_t *w = at(REGION + i * PAGE);
                wrong |= *w ^ frame;
                w[1] += r;
            }
        }
    end();
    expect(!wrong, "a remapped page");
    for (uint64_t i = 0; i < n; i++)
        *sum = mix(*sum, at(REGION + i * PAGE)[1]);
    return rounds * n;
}

uint64_t work_protect(uint64_t *sum) {
    uint64_t n = ARG(protect, pages), rounds = ARG(protect, rounds);
    region(n * PAGE, 0);
    for (uint64_t i = 0; i < n; i++)
        *at(REGION + i * PAGE) = i;
    call4(CALL_ON_FAULT, FAULT_WRITE, REGION, n, 0);
    begin();
    for (uint64_t r = 1; r <= rounds; r++) {
        call(CALL_PROTECT, REGION, n);
        for (uint64_t i = 0; i < n; i++)
            *at(REGION + i * PAGE) += r;
    }
    end();
    expect(call(CALL_COUNT, COUNT_WRITE_FAULTS, 0) == rounds * n, "write faults");
    for (uint64_t i = 0; i < n; i++)
        *sum = mix(*sum, *at(REGION + i * PAGE));
    return rounds * n;
}

/* Write the first word of every page whose number is in this share. Return: how many. */
static uint64_t write_share(uint64_t n, uint64_t per_cent, uint64_t value) {
    uint64_t written = 0, part = 0;
    for (uint64_t i = 0; i < n; i++) {
        part += per_cent;
        if (part < 100)
            continue;
        part -= 100;
        *at(REGION + i * PAGE) = value + i;
        written++;
    }
    return written;
}

static uint64_t sum_pages(uint64_t n) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum = mix(sum, *at(REGION + i * PAGE) ^ at(REGION + i * PAGE)[511]);
    return sum;
}

uint64_t work_cow(uint64_t *sum) {
    uint64_t n = ARG(cow, pages), rounds = ARG(cow, rounds), copied = 0, faults = 0;
    uint64_t child = call(CALL_SPACE, 0, 0), pool;
    region(n * PAGE, 0);
    pool = frames(n * PAGE, PAGE);
    for (uint64_t i = 0; i < n; i++)
        *at(REGION + i * PAGE) = at(REGION + i * PAGE)[511] = i;
    begin();
    for (uint64_t r = 1; r <= rounds; r++) {
        call4(CALL_FORK, child, REGION, n, 0);
        call4(CALL_ON_FAULT, FAULT_COPY, REGION, n, pool);
        call(CALL_SWITCH, child, 0);
        copied += write_share(n, ARG(cow, write), r << 32);
        *sum = mix(*sum, sum_pages(n));
        call(CALL_SWITCH, 0, 0);
        call4(CALL_DROP, child, REGION, n, 0);
        call4(CALL_ON_FAULT, FAULT_WRITE, REGION, n, 0);
        faults += write_share(n, ARG(cow, parent), r << 40);
    }
    end();
    expect(call(CALL_COUNT, COUNT_WRITE_FAULTS, 0) == copied + faults, "write faults");
    *sum = mix(*sum, sum_pages(n));
    return copied;
}

uint64_t work_ctxsw(uint64_t *sum) {
    uint64_t k = ARG(ctxsw, spaces), n = ARG(ctxsw, pages), count = ARG(ctxsw, switches);
    uint64_t wrong = 0, pcid = ARG(ctxsw, pcid);
    for (uint64_t s = 0; s < k; s++) {
        uint64_t space = s ? call(CALL_SPACE, 0, 0) : 0;
        call4(CALL_MAP, REGION, frames(n * PAGE, PAGE), n,
              MAP_WRITE | space << MAP_SPACE_SHIFT);
    }
    if (pcid && !call(CALL_PCID, 1, 0)) {
        note("this CPU has no PCID");
        pcid = 0;
    }
    for (uint64_t s = 0; s < k; s++) {
        call(CALL_SWITCH, s, 0);
        for (uint64_t i = 0; i < n; i++)
            *at(REGION + i * PAGE) = s;
    }
    begin();
    for (uint64_t i = 0, s = 0; i < count; i++) {
        call(CALL_SWITCH, s, pcid);
        for (uint64_t j = 0; j < n; j++) {
            volatile uint64_t *w = at(REGION + j * PAGE);
            wrong |= *w ^ s;
            w[1]++;
        }
        s = s + 1 == k ? 0 : s + 1;
    }
    end();
    expect(!wrong, "a page of another address space");
    for (uint64_t s = 0; s < k; s++) {
        call(CALL_SWITCH, s, 0);
        *sum = mix(*sum, at(REGION)[1]);
    }
    call(CALL_SWITCH, 0, 0);
    return count;
}

uint64_t work_split(uint64_t *sum) {
    uint64_t n = ARG(split, regions), rounds = ARG(split, rounds);
    uint64_t touch = ARG(split, touch), step = 512 / touch;
    region(n * LARGE_PAGE, 1);
    for (uint64_t i = 0; i < n * 512; i += step)
        *at(REGION + i * PAGE) = i;
    begin();
    for (uint64_t r = 1; r <= rounds; r++)
        for (uint64_t i = 0; i < n; i++) {
            uint64_t base = REGION + i * LARGE_PAGE;
            call(CALL_SPLIT, base, 0);
            for (uint64_t j = 0; j < touch; j++)
                *at(base + j * step * PAGE) += r;
            call(CALL_MERGE, base, 0);
            for (uint64_t j = 0; j < touch; j++)
                *sum += *at(base + j * step * PAGE);
        }
    end();
    for (uint64_t i = 0; i < n * 512; i += step)
        *sum = mix(*sum, *at(REGION + i * PAGE));
    return rounds * n;
}
