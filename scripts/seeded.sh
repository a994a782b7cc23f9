#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# seeded.sh [NAME...]: put known faults into the library, one at a time, and see them caught
#
# Each patch of tests/seeded/ is a fault that a test must catch. The tree is copied below
# build/seeded, once a job, and in such a copy each named test must pass without a fault, and fail
# with each patch that names it. A patch that no longer applies, or that does not build, has gone
# stale, and counts as not caught. The last lines are a table; the exit status is 0 only if all
# were caught.
#   NAME         only patches with NAME in their file name
#   --sample N   N of them, spread over the rooms: others tomorrow, until all had their turn
#   --day DAY    with --sample: those of another day, counted from 1970
#   --trust      do not run the tests without a fault first: someone just did
#   --list       print the patches selected, their hazards and tests, and do nothing
#   --help       this text
# MM_JOBS in the environment is how many jobs run at a time (the number of processors).
#
# A patch begins with lines of "# KEY: VALUE", which git skips:
#   # hazard: 1                    the rows of the hazards that it stands for
#   # test: host.bootmap           the test that must fail
#   # sanitize: address,undefined  optional: the build in which it must (MM_SANITIZE)

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

filters=()
list=0
trust=0
sample=0
day=$(($(date +%s) / 86400))
while [ $# -gt 0 ]; do
    case $1 in
    --list) list=1 ;;
    --trust) trust=1 ;;
    --sample)
        sample=$(option_number "$@")
        shift
        ;;
    --day)
        day=$(option_number "$@")
        shift
        ;;
    --help | -h)
        show_help
        exit 0
        ;;
    -*) die "unknown argument '$1'; --help says more" ;;
    *) filters+=("$1") ;;
    esac
    shift
done

# header PATCH KEY
header() {
    sed -n "/^[^#]/q;s/^# $2: *//p" "$1"
}

selected() {
    local filter name=${1##*/}
    [ ${#filters[@]} -gt 0 ] || return 0
    for filter in "${filters[@]}"; do
        [[ ${name%.patch} != *"$filter"* ]] || return 0
    done
    return 1
}

patches=()
for patch in "$MM_ROOT"/tests/seeded/*.patch; do
    [ -e "$patch" ] || continue
    for key in hazard test; do
        [ -n "$(header "$patch" $key)" ] || die "$(basename "$patch") has no line '# $key: ...'"
    done
    if selected "$patch"; then
        patches+=("$patch")
    fi
done
[ ${#patches[@]} -gt 0 ] || die "no patch in tests/seeded is called like: ${filters[*]-}"

# sampled PATCH...: every day's sample follows that of the day before in one order of all patches,
# in which each room comes as evenly as its number of patches allows.
sampled() {
    printf '%s\n' "$@" | awk -v sample="$sample" -v day="$day" '
        {
            room = $0
            sub(/.*\//, "", room)
            sub(/-.*/, "", room)
            path[NR] = $0
            rooms[NR] = room
            place[NR] = nr_of[room]++
        }
        END {
            for (i = 1; i <= NR; i++) {
                printf "%.6f %s\n", (place[i] + 0.5) / nr_of[rooms[i]], path[i] | "sort"
            }
            close("sort")
        }' | awk -v sample="$sample" -v day="$day" '
        { path[NR - 1] = $2 }
        END {
            for (i = 0; i < sample && i < NR; i++) {
                print path[(day * sample + i) % NR]
            }
        }'
}
if [ "$sample" != 0 ]; then
    nr_all=${#patches[@]}
    mapfile -t patches < <(sampled "${patches[@]}")
    printf 'sample of day %d: %d of %d faults\n' "$day" ${#patches[@]} "$nr_all"
fi

if [ "$list" = 1 ]; then
    for patch in "${patches[@]}"; do
        printf '%-36s hazard %-8s %s\n' "$(basename "$patch" .patch)" \
            "$(header "$patch" hazard)" "$(header "$patch" test)"
    done
    exit 0
fi

"$MM_ROOT/scripts/deps.sh" test

place=$MM_ROOT/build/seeded
# Outside of any repository, as git sees it, so that patches apply to the copies.
export GIT_CEILING_DIRECTORIES=$place
rm -rf "$place"
mkdir -p "$place"

# ---- one worker: a copy of the tree, builds of it, some of the patches ---------------------------

needs_examples() {
    local patch
    for patch in "$@"; do
        [[ $(header "$patch" test) != qemu.* ]] || return 0
    done
    return 1
}

# build_of SANITIZERS: the build directory, configured on first use.
build_of() {
    local build=$here/build-${1:-plain}
    local examples=OFF
    if [ ! -e "$build/build.ninja" ]; then
        # Faults may leave a variable unused: warnings are no errors here. Nobody debugs these builds:
        # without what a debugger wants they are made a fifth faster.
        [ -n "$1" ] || ! needs_examples "${mine[@]}" || examples=ON
        cmake -S "$tree" -B "$build" -G Ninja -DMM_WERROR=OFF -DMM_BUILD_TESTS=ON \
            -DMM_BUILD_EXAMPLES="$examples" -DMM_SANITIZE="${1:-OFF}" \
            -DCMAKE_C_FLAGS_RELWITHDEBINFO="-O2 -g1 -DNDEBUG" >"$log" 2>&1 || {
            cat "$log" >&2
            die "configuring failed"
        }
    fi
    printf '%s\n' "$build"
}

# compile BUILD TEST: what the test needs; some are one program, others may need anything.
compile() {
    local targets=()
    case $2 in
    host.*) targets=("test_${2#host.}") ;;
    fuzz.*) targets=("fuzz_${2#fuzz.}") ;;
    qemu.*) targets=(minikernel_iso) ;;
    adapters.*) targets=("adapter_${2#adapters.}") ;;
    preload.*) targets=(mm_preload test_preload) ;;
    esac
    ninja -C "$1" -j "$jobs" "${targets[@]}" >"$log" 2>&1
}

# run_test BUILD TEST [TRY]: what is drawn by chance is drawn the same in each run of this script.
run_test() {
    MM_TEST_SEED=${MM_TEST_SEED:-$((0x5eed + ${3:-0}))} ctest --test-dir "$1" \
        -R "^${2//./\\.}\$" --no-tests=error --output-on-failure >"$log" 2>&1
}

# catches BUILD TEST: whether the test fails; what only chance or real threads meet gets three tries.
catches() {
    local nr
    for nr in 1 2 3; do
        run_test "$1" "$2" "$nr" || return 0
    done
    return 1
}

declare -A baseline
# passes_by_itself BUILD TEST: once each; the test must be there, and pass without a fault.
passes_by_itself() {
    local key=$1:$2
    [ "$trust" = 0 ] || return 0
    if [ -z "${baseline[$key]-}" ]; then
        baseline[$key]=no
        if ! compile "$1" "$2"; then
            tail -n 20 "$log" >&2
        elif run_test "$1" "$2"; then
            baseline[$key]=yes
        else
            tail -n 30 "$log" >&2
        fi
    fi
    [ "${baseline[$key]}" = yes ]
}

# try PATCH: $result is what became of it in a few words.
try() {
    local test build
    test=$(header "$1" test)
    build=$(build_of "$(header "$1" sanitize)") || exit 1
    if ! passes_by_itself "$build" "$test"; then
        result="$test fails without any fault"
    elif ! (cd "$tree" && git apply --whitespace=nowarn "$1" >"$log" 2>&1); then
        result="the patch does not apply"
    else
        if ! compile "$build" "$test"; then
            result="the fault does not build"
        elif ! catches "$build" "$test"; then
            result="NOT CAUGHT"
        elif grep -q '^No tests were found' "$log"; then
            result="there is no test $test"
        else
            result="caught"
        fi
        (cd "$tree" && git apply -R --whitespace=nowarn "$1") || die "$1 cannot be taken back"
    fi
}

# work NUMBER PATCH...: one line a patch into the worker's file of results.
work() {
    here=$place/$1
    tree=$here/tree
    log=$here/log
    shift
    mine=("$@")
    mkdir -p "$tree"
    tar -C "$MM_ROOT" --exclude=./build --exclude=./.git -cf - . | tar -C "$tree" -xf -
    for patch in "${mine[@]}"; do
        started=$SECONDS
        try "$patch"
        printf '%s: %s, %d s\n' "$(basename "$patch" .patch)" "$result" $((SECONDS - started))
        printf '%s|%s\n' "$patch" "$result" >>"$here/results"
    done
}

# ---- all workers ---------------------------------------------------------------------------------

# Patches of one test and one build stay together, dealt to whoever has least to do. A build that a
# worker has not yet weighs as much as several patches.
nr_workers=$((MM_JOBS < ${#patches[@]} ? MM_JOBS : ${#patches[@]}))
jobs=$((MM_JOBS / nr_workers))
deal() {
    local patch
    for patch in "${patches[@]}"; do
        printf '%s|%s|%s\n' "$(header "$patch" sanitize)" "$(header "$patch" test)" "$patch"
    done | sort | awk -F'|' -v workers="$nr_workers" '
        $1 "|" $2 != group {
            group = $1 "|" $2
            best = -1
            for (w = 0; w < workers; w++) {
                cost[w] = load[w] + (w SUBSEP $1 in has ? 0 : 6)
                best = best < 0 || cost[w] < cost[best] ? w : best
            }
            load[best] = cost[best]
            has[best, $1] = 1
        }
        { load[best]++; print best, $3 }'
}

deal >"$place/deal"
pids=()
# What is interrupted leaves nothing running.
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
for ((worker = 0; worker < nr_workers; worker++)); do
    mapfile -t share < <(sed -n "s/^$worker //p" "$place/deal")
    [ ${#share[@]} -eq 0 ] || {
        work "$worker" "${share[@]}" &
        pids+=($!)
    }
done
for pid in "${pids[@]}"; do
    wait "$pid" || true # who died has left results out
done
trap - EXIT

caught=0
say "seeded faults"
printf '%-36s %-8s %-28s %s\n' fault hazard test result
for patch in "${patches[@]}"; do
    result=$(cat "$place"/*/results 2>/dev/null | awk -F'|' -v p="$patch" '$1 == p { print $2 }')
    [ "$result" != caught ] || caught=$((caught + 1))
    printf '%-36s %-8s %-28s %s\n' "$(basename "$patch" .patch)" "$(header "$patch" hazard)" \
        "$(header "$patch" test)" "${result:-was not tried}"
done
printf '%d of %d faults caught\n' "$caught" ${#patches[@]}
[ "$caught" = ${#patches[@]} ]
