# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# xz: 6 MiB of sources in blocks, by four threads, and back; the compressed file is compared.
# on: xz 50

set -eu
find "$MM_SOURCE/src" "$MM_SOURCE/include" "$MM_SOURCE/docs" -type f | sort | xargs cat >some
for _ in 1 2 3 4 5; do cat some; done |
    head -c 6291456 >all
xz -T4 --block-size=1MiB -2 -k -c all >out/all.xz
xz -T4 -d -c out/all.xz | cmp - all
xz -6 -k -c some >out/some.xz
xz -d -c out/some.xz | cmp - some
cksum out/all.xz out/some.xz
