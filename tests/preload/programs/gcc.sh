# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# gcc: the longest C file of the library at -O2, and one of 300 functions; the objects are compared.
# The driver starts cc1 and as as its children.
# on: cc1 150000
# on: as 1000

set -eu
awk 'BEGIN {
    for (i = 0; i < 300; i++) {
        printf "struct s%d { int a[%d]; struct s%d *next; };\n", i, i % 9 + 1, i
        printf "static int f%d(struct s%d *s, int n)\n{\n    int sum = %d;\n", i, i, i
        printf "    for (int i = 0; i < n && s != 0; i++, s = s->next) {\n"
        printf "        sum += s->a[i %% %d] * (n ^ %d);\n", i % 9 + 1, i * 7
        printf "        switch (sum & 7) { case 1: sum ^= i; break; case 3: sum -= n; break; }\n"
        printf "    }\n    return sum;\n}\n"
        printf "int g%d(void *p, int n) { return f%d(p, n) + f%d(p, n - 1); }\n", i, i, int(i / 2)
    }
}' >many.c
gcc -std=c17 -O2 -c many.c -o out/many.o
gcc -std=c17 -O2 -ffreestanding -mgeneral-regs-only -mcx16 -I"$MM_SOURCE/include" -I"$MM_SOURCE/src" \
    -c "$MM_SOURCE/src/core/paging/paging.c" -o out/paging.o
cksum out/many.o out/paging.o
