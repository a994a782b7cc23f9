# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# git: a repository of the library's sources, with 12 commits, packed and checked, and a copy of it.
# on: git 50000

set -eu
export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_PAGER=cat
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.org
git init -q -b main tree
cd tree
git config gc.auto 0
cp -r "$MM_SOURCE/src" "$MM_SOURCE/include" .
export GIT_AUTHOR_DATE='2001-02-03 04:05:06 +0000' GIT_COMMITTER_DATE='2001-02-03 04:05:06 +0000'
git add .
git commit -q -m 'all of it'
for i in $(seq 12); do
    find src -name '*.c' | sort | awk -v i="$i" 'NR % 7 == i % 7' | while read -r file; do
        sed -n "$i,\$p" "$file" >"$file.part"
        echo "/* $i */" >>"$file"
    done
    git add -A
    GIT_COMMITTER_DATE="2001-02-04 04:$((i + 10)):06 +0000" git commit -q -m "part $i"
done
git log --stat --format='%H %ad %s' | cksum
git log -p -3 | cksum
git diff HEAD~8 HEAD --stat | tail -n 3
git blame -s src/heap/heap.c | cksum
git gc -q
git fsck --strict --no-progress
git count-objects -v | grep -E '^(count|in-pack|packs)'
git cat-file --batch-all-objects --batch-check | cksum
git clone -q --no-local . ../copy
git -C ../copy fsck --strict --no-progress
git -C ../copy rev-parse HEAD 'HEAD^{tree}'
git -C ../copy status --short
