#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# seeded.sh [NAME...]: put known faults into the library, one at a time, and see them caught
#
# Each patch of tests/seeded/ is a fault that a test must catch. The tree is copied below
# build/seeded, and in that copy each named test must pass without a fault, and fail with each
# patch that names it. A patch that no longer applies, or that does not build, has gone stale, and
# counts as not caught. The last lines are a table; the exit status is 0 only if all were caught.
#   NAME         only patches with NAME in their file name
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
while [ $# -gt 0 ]; do
    case $1 in
    --list) list=1 ;;
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
    local filter
    [ ${#filters[@]} -gt 0 ] || return 0
    for filter in "${filters[@]}"; do
        [[ $(basename "$1" .patch) != *"$filter"* ]] || return 0
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

if [ "$list" = 1 ]; then
    for patch in "${patches[@]}"; do
        printf '%-36s hazard %-8s %s\n' "$(basename "$patch" .patch)" \
            "$(header "$patch" hazard)" "$(header "$patch" test)"
    done
    exit 0
fi

"$MM_ROOT/scripts/deps.sh" test

place=$MM_ROOT/build/seeded
tree=$place/tree
log=$place/log
# Outside of any repository, as git sees it, so that patches apply to the copy.
export GIT_CEILING_DIRECTORIES=$place

rm -rf "$place"
mkdir -p "$tree"
tar -C "$MM_ROOT" --exclude=./build --exclude=./.git -cf - . | tar -C "$tree" -xf -

# build_of SANITIZERS: the build directory, configured on first use.
build_of() {
    local build=$place/build-${1:-plain}
    local examples=OFF
    if [ ! -e "$build/build.ninja" ]; then
        # Faults may leave a variable unused: warnings are no errors here.
        [ -n "$1" ] || ! needs_examples || examples=ON
        cmake -S "$tree" -B "$build" -G Ninja -DMM_WERROR=OFF -DMM_BUILD_TESTS=ON \
            -DMM_BUILD_EXAMPLES="$examples" -DMM_SANITIZE="${1:-OFF}" >"$log" 2>&1 || {
            cat "$log" >&2
            die "configuring failed"
        }
    fi
    printf '%s\n' "$build"
}

needs_examples() {
    local patch
    for patch in "${patches[@]}"; do
        [[ $(header "$patch" test) != qemu.* ]] || return 0
    done
    return 1
}

# compile BUILD TEST: what the test needs; a host test is one program, others may need anything.
compile() {
    local targets=()
    case $2 in
    host.*) targets=("test_${2#host.}") ;;
    esac
    ninja -C "$1" -j "$MM_JOBS" "${targets[@]}" >"$log" 2>&1
}

run_test() {
    ctest --test-dir "$1" -R "^${2//./\\.}\$" --no-tests=error --output-on-failure >"$log" 2>&1
}

declare -A baseline
# passes_by_itself BUILD TEST: once each; the test must be there, and pass without a fault.
passes_by_itself() {
    local key=$1:$2
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

# try PATCH: prints what became of it in a few words; 0 if the fault was caught.
try() {
    local test build verdict
    test=$(header "$1" test)
    build=$(build_of "$(header "$1" sanitize)") || exit 1
    if ! passes_by_itself "$build" "$test"; then
        verdict="$test fails without any fault"
    elif ! (cd "$tree" && git apply --whitespace=nowarn "$1" >"$log" 2>&1); then
        verdict="the patch does not apply"
    else
        if ! compile "$build" "$test"; then
            verdict="the fault does not build"
        elif run_test "$build" "$test"; then
            verdict="NOT CAUGHT"
        else
            verdict="caught"
        fi
        (cd "$tree" && git apply -R --whitespace=nowarn "$1") || die "$1 cannot be taken back"
    fi
    result=$verdict
    [ "$verdict" = caught ]
}

failed=0
table=()
nr=0
for patch in "${patches[@]}"; do
    nr=$((nr + 1))
    name=$(basename "$patch" .patch)
    started=$SECONDS
    printf '[%d/%d] %s: ' "$nr" "${#patches[@]}" "$name"
    try "$patch" || failed=$((failed + 1))
    printf '%s, %d s\n' "$result" $((SECONDS - started))
    table+=("$(printf '%-36s %-8s %-28s %s' "$name" "$(header "$patch" hazard)" \
        "$(header "$patch" test)" "$result")")
done

say "seeded faults"
printf '%-36s %-8s %-28s %s\n' fault hazard test result
printf '%s\n' "${table[@]}"
printf '%d of %d faults caught\n' $((${#patches[@]} - failed)) ${#patches[@]}
[ "$failed" = 0 ]
