/* SPDX-License-Identifier: MIT */
/* The 8042 inside struct misc; see i8042.c. */
#ifndef DEV_I8042_H
#define DEV_I8042_H

#include "dev/dev.h"

struct i8042;
/* Adds ports 0x60 and 0x64. Return: NULL when out of memory. */
struct i8042 *i8042_create(struct dev_bus *bus, struct irq_sink irq,
                           const struct dev_host *host);
void i8042_destroy(struct i8042 *k);
/* The A20 gate is always open; port 0x92 and the 8042 only remember what was asked. */
bool i8042_a20(const struct i8042 *k);
void i8042_set_a20(struct i8042 *k, bool on);

#endif
