#!/bin/sh
# SPDX-License-Identifier: MIT
# What is measured of a program in the guest: program NAME N.
. /usr/local/lib/penumbra/programs.sh
n=$2
"run_$1" > out 2> log
