# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# python3: objects of its own allocator first, whose arenas alone come from malloc; then all of them.
# on: python3.* 300000

set -eu
python3 -B "$MM_PROGRAMS/python3.py"
PYTHONMALLOC=malloc python3 -B "$MM_PROGRAMS/python3.py"
