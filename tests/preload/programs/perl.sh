# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# perl: hashes, regular expressions, sorting, closures, strings that grow.
# on: perl 100000

set -eu
PERL_HASH_SEED=0 perl "$MM_PROGRAMS/perl.pl"
