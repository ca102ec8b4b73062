/* SPDX-License-Identifier: MIT */
/* Work in user space, with the page faults and TLB misses that its memory brings. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "linux.h"

static void *allocate(uint64_t size) {
    void *p = malloc(size);
    if (!p)
        die("memory");
    return p;
}

/* ---- Sort ---- */

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

uint64_t linux_sort(struct job *job) {
    uint64_t x = 88172645463325252ul, *v = allocate(job->n * sizeof(*v));
    uint64_t t = measure_begin();
    for (uint64_t i = 0; i < job->n; i++)
        v[i] = next_random(&x);
    qsort(v, job->n, sizeof(*v), compare);
    t = measure_end(t);
    for (uint64_t i = 0; i < job->n; i++) {
        if (i && v[i - 1] > v[i]) {
            errno = EILSEQ;
            die("sort");
        }
        job->sum = mix(job->sum, v[i]);
    }
    free(v);
    return t;
}

/* ---- Hash table ---- */

/* Odd operations look for a key that was inserted before. At most half the table is full;
 * beyond that only lookups are left. */
uint64_t linux_hash(struct job *job) {
    uint64_t slots = 1, x = 88172645463325252ul, y = x, used = 0, behind = 0;
    while (slots * 2 * sizeof(uint64_t) <= job->bytes)
        slots *= 2;
    uint64_t *table = calloc(slots, sizeof(*table));
    if (!table)
        die("memory");
    uint64_t t = measure_begin();
    for (uint64_t i = 0; i < job->n; i++) {
        int insert = !(i & 1) && used < slots / 2;
        if (!insert && behind == used) {
            y = 88172645463325252ul;
            behind = 0;
        }
        uint64_t key = next_random(insert ? &x : &y), at = mix(0, key) & (slots - 1);
        while (table[at] && table[at] != key)
            at = (at + 1) & (slots - 1);
        if (insert) {
            table[at] = key;
            used++;
        } else {
            behind++;
            job->sum += table[at] == key;
        }
    }
    t = measure_end(t);
    job->sum = mix(job->sum, used);
    free(table);
    return t;
}

/* ---- Compression ---- */

#define WINDOW    65535u
#define HASH_BITS 15
#define MATCH_MIN 4u
#define MATCH_MAX 255u

/* Words from a small vocabulary, as repetitive as text is. */
static void make_text(uint8_t *p, uint64_t n) {
    uint64_t x = 88172645463325252ul;
    for (uint64_t i = 0; i < n;) {
        uint64_t word = next_random(&x) % 3000, y = mix(1, word) | 1;
        for (uint64_t len = 2 + y % 9; len && i < n; len--, y = mix(y, 7))
            p[i++] = (uint8_t)('a' + y % 26);
        if (i < n)
            p[i++] = ' ';
    }
}

static inline uint32_t load32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/*
 * Tokens: 0, byte: a literal; length (4..255), distance (two bytes, low first): a match.
 * out has room for 2 n bytes. Return: bytes written.
 */
static uint64_t pack(const uint8_t *in, uint64_t n, uint8_t *out) {
    uint32_t *head = calloc(1u << HASH_BITS, sizeof(*head)); /* position + 1 */
    uint64_t i = 0, o = 0;
    if (!head)
        die("memory");
    while (i < n) {
        uint64_t len = 0, from = 0;
        if (i + MATCH_MIN <= n) {
            uint32_t h = load32(in + i) * 2654435761u >> (32 - HASH_BITS);
            from = head[h];
            head[h] = (uint32_t)i + 1;
            if (from && i + 1 - from <= WINDOW)
                while (len < MATCH_MAX && i + len < n &&
                       in[from - 1 + len] == in[i + len])
                    len++;
        }
        if (len >= MATCH_MIN) {
            uint64_t distance = i + 1 - from;
            out[o++] = (uint8_t)len;
            out[o++] = (uint8_t)distance;
            out[o++] = (uint8_t)(distance >> 8);
            i += len;
        } else {
            out[o++] = 0;
            out[o++] = in[i++];
        }
    }
    free(head);
    return o;
}

/* Return: bytes written, at most n. */
static uint64_t unpack(const uint8_t *in, uint64_t size, uint8_t *out, uint64_t n) {
    uint64_t o = 0;
    for (uint64_t i = 0; i + 1 < size;) {
        uint64_t len = in[i];
        if (!len) {
            if (o == n)
                break;
            out[o++] = in[i + 1];
            i += 2;
            continue;
        }
        uint64_t distance = in[i + 1] | (uint64_t)in[i + 2] << 8;
        if (distance > o || len > n - o)
            break;
        for (; len; len--, o++)
            out[o] = out[o - distance];
        i += 3;
    }
    return o;
}

uint64_t linux_compress(struct job *job) {
    if (job->n > UINT32_MAX) {
        errno = EFBIG;
        die("compress");
    }
    uint8_t *text = allocate(job->n), *packed = allocate(2 * job->n),
            *again = allocate(job->n);
    make_text(text, job->n);
    uint64_t t = measure_begin();
    uint64_t size = pack(text, job->n, packed);
    uint64_t back = unpack(packed, size, again, job->n);
    t = measure_end(t);
    if (back != job->n || memcmp(text, again, job->n)) {
        errno = EILSEQ;
        die("compress");
    }
    for (uint64_t i = 0; i < size; i++)
        job->sum = (job->sum << 5 | job->sum >> 59) ^ packed[i];
    job->sum = mix(job->sum, size);
    free(text);
    free(packed);
    free(again);
    return t;
}
