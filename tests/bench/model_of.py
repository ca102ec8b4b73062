#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# model_of.py RESULT.json: the TLB model that a result keeps, as a profile for --tlb.
import json
import sys

json.dump(json.load(open(sys.argv[1]))["settings"]["tlb"]["profile"], sys.stdout)
