# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# sqlite3: 100,000 rows, indexes, joins and aggregates, in memory and in a file that is compared.
# on: sqlite3 100000

set -eu
sqlite3 -batch out/rows.db <"$MM_PROGRAMS/sqlite3.sql"
sqlite3 -batch :memory: <"$MM_PROGRAMS/sqlite3.sql"
sqlite3 -batch out/rows.db "SELECT count(*), sum(n) FROM rows; PRAGMA integrity_check;" .dump | cksum
