/* SPDX-License-Identifier: MIT */
/* Offsets in struct cpu for entry.S; slow.c asserts them. */
#pragma once

#define OFF_RIP      128
#define OFF_SALT     168
#define OFF_HOST_SP  264
#define OFF_RET      272
#define OFF_R10      280
#define OFF_RAX      288
#define OFF_VEC      296
#define OFF_R8       304
#define OFF_VEC_LIVE 508

#define LEFT_OTHER 3
#define LEFT_MISS  0xffffffff
