/* SPDX-License-Identifier: MIT */
/* The 8042 inside struct misc; see i8042.c. */
#pragma once

#include "dev/dev.h"

struct i8042;
struct i8042 *i8042_create(const struct dev_env *env); /* ports 0x60 and 0x64 */
