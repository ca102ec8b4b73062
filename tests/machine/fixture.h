/* SPDX-License-Identifier: MIT */
/* Guest memory without a machine, for the loaders. */
#pragma once

#include "machine/internal.h"

struct fixture {
    struct load l;
    struct err err;
    char text[512];
    uint8_t *low, *high; /* RAM, zeros at first */
    uint64_t low_size, high_size;
    bool strayed; /* a write outside RAM */
    /* Of what loaders borrow: how often, and what has not come back. */
    unsigned borrowed;
    size_t lent;
};

/* A load of nothing yet into `ram` bytes of memory. */
void fixture_init(struct fixture *f, uint64_t ram);
void fixture_free(struct fixture *f);
/* Let loaders borrow RAM. */
void fixture_lend(struct fixture *f);
/* Give it a copy of an image and load it. Return: as load_image. */
int fixture_load(struct fixture *f, const void *image, size_t size);
/* Guest memory at gpa; NULL outside RAM. */
uint8_t *fixture_at(struct fixture *f, pn_gpa gpa);
uint64_t fixture_u64(struct fixture *f, pn_gpa gpa);
uint32_t fixture_u32(struct fixture *f, pn_gpa gpa);
