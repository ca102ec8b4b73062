/* SPDX-License-Identifier: MIT */
/* The 8042 inside struct misc; see i8042.c. */
#pragma once

#include "dev/dev.h"

struct i8042;
struct i8042 *i8042_create(const struct dev_env *env); /* ports 0x60 and 0x64 */
/* The A20 gate is always open; port 0x92 and the 8042 only remember what was asked. */
bool i8042_a20(const struct i8042 *k);
void i8042_set_a20(struct i8042 *k, bool on);
