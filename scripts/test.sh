#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# test.sh [OPTION...] [CTEST-OPTION...]: build everything and run the tests through ctest
#
# Installs what is missing (deps.sh), builds below build/, and ends with the time of each stage and
# ctest's summary. Without an option it runs everything but --full, --coverage and --mcdc.
#   --host        host tests of the plain gcc build, and the fuzz targets over their corpus
#   --qemu        boots of the minikernel
#   --sanitize    host tests under ASan and UBSan, as clang builds them
#   --threads     host tests with real threads, under TSan
#   --fuzzing     the fuzz targets, 30 s each
#   --seeded      a sample of the seeded faults
#   --gate        the gates
#                 (several of these add up)
#   --full        long campaigns and boots too; all host tests under TSan, under gcc's ASan and UBSan,
#                 and as clang builds them; all seeded faults
#   --fuzz SECONDS  the fuzz targets, that long each, and nothing else unless asked for
#   --coverage    run the host tests in a build that counts, and print the lines and branches of
#                 each room that they run, and the branches that they do not; nothing else
#   --mcdc        the same with clang 19, for modified condition/decision coverage; nothing else
#   -R REGEX, -E REGEX, -V, --rerun-failed, --repeat ARG and the like go to ctest
#   --help        this text
# MM_JOBS in the environment is how many jobs run at a time (the number of processors);
# MM_TEST_SEED is the seed of everything that is drawn by chance, and is printed by what failed.

# shellcheck disable=SC2317 # timed() calls what seems to be called by nobody
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

labels=()
full=0
fuzz_seconds=30
report=
ctest_arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    --host | --qemu | --sanitize | --threads | --seeded | --gate) labels+=("${1#--}") ;;
    --fuzzing) labels+=(fuzz) ;;
    --fuzz)
        fuzz_seconds=$(option_number "$@")
        labels+=(fuzz)
        shift
        ;;
    --coverage | --mcdc) report=${1#--} ;;
    --full) full=1 ;;
    --help | -h)
        show_help
        exit 0
        ;;
    -R | -E | -j | --repeat | --tests-regex | --exclude-regex | --parallel)
        ctest_arguments+=("$1" "$(option_value "$@")")
        shift
        ;;
    -V | -VV | --verbose | --rerun-failed | --stop-on-failure | -R* | -E* | -j*)
        ctest_arguments+=("$1")
        ;;
    *) die "unknown argument '$1'; --help says more" ;;
    esac
    shift
done
selected_all=0
if [ -n "$report" ]; then
    [ ${#labels[@]} -eq 0 ] || die "--$report goes with no selection; --help says more"
    labels=(host)
elif [ ${#labels[@]} -eq 0 ]; then
    selected_all=1
    labels=(host qemu sanitize threads fuzz seeded gate)
fi

# Which builds the selection needs.
presets=()
for label in "${labels[@]}"; do
    case $label in
    host | qemu | seeded | gate) presets+=("${report:-dev}") ;;
    sanitize)
        presets+=(asan-clang)
        [ "$full" = 0 ] || presets+=(asan-gcc)
        ;;
    threads) presets+=(tsan) ;;
    fuzz) presets+=(fuzz) ;;
    esac
done
[ "$selected_all" = 0 ] || [ "$full" = 0 ] || presets+=(clang)
mapfile -t presets < <(printf '%s\n' "${presets[@]}" | awk '!seen[$0]++')

# ---- stages, and what they took ------------------------------------------------------------------

stages=()
# timed NAME COMMAND...: its time goes into the table.
timed() {
    local name=$1 started=$SECONDS status=0
    shift
    "$@" || status=$?
    stages+=("$(printf '%6d s  %s' $((SECONDS - started)) "$name")")
    return "$status"
}

show_stages() {
    say "time of each stage"
    printf '%s\n' "${stages[@]}"
    printf '%6d s  in all\n' "$SECONDS"
    echo
}

install_packages() {
    local sets=(test)
    [ -z "$report" ] || sets+=("$report")
    "$MM_ROOT/scripts/deps.sh" "${sets[@]}"
}

# Side by side, since each is one process that mostly starts compilers.
configure_presets() {
    local preset pid pids=() arguments status=0
    for preset in "${presets[@]}"; do
        arguments=()
        [ "$preset" != fuzz ] || arguments=("-DMM_FUZZ_SECONDS=$fuzz_seconds")
        configure "$preset" "${arguments[@]}" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || status=1
    done
    return "$status"
}

build_preset() {
    local targets=()
    if [ "$1" = tsan ] && [ "$full" = 0 ]; then
        targets=(mm_threads_tests)
    fi
    build "$1" "${targets[@]}"
}

timed "packages" install_packages
timed "configure" configure_presets
for preset in "${presets[@]}"; do
    timed "build $preset" build_preset "$preset"
done

# ---- one ctest run over all the builds, so that there is one summary -----------------------------

run_dir=$MM_ROOT/build/ctest
mkdir -p "$run_dir"
for preset in "${presets[@]}"; do
    printf 'subdirs("%s")\n' "$(binary_dir "$preset")"
done >"$run_dir/CTestTestfile.cmake"

if [ "$full" = 1 ] && [[ " ${labels[*]} " = *" threads "* ]]; then
    labels+=(tsan)
fi
pattern="^($(IFS='|' && echo "${labels[*]}"))$"
selection=(-L "$pattern")
left_out='^long$'
[ "$full" = 0 ] || left_out='^sample$' # it is a part of all
selection+=(-LE "$left_out")

# A build or a kind of test that has quietly vanished is a failure, not a success.
count_tests() {
    ctest -N "$@" | sed -n 's/^Total Tests: //p'
}
for preset in "${presets[@]}"; do
    nr=$(count_tests --test-dir "$(binary_dir "$preset")" "${selection[@]}")
    [ "${nr:-0}" -gt 0 ] || die "the build '$preset' has no test with a label of: ${labels[*]}"
done
for label in "${labels[@]}"; do
    nr=$(count_tests --test-dir "$run_dir" -L "^$label\$")
    [ "${nr:-0}" -gt 0 ] || die "no build has a test with the label '$label'"
done

# Line by line: awk may read a pipe in blocks, and progress would come late.
hold_summary() {
    local line held=0
    while IFS= read -r line; do
        [[ ! $line =~ ^([0-9]+%\ tests\ passed|No\ tests\ were\ found) ]] || held=1
        if [ "$held" = 1 ]; then
            printf '%s\n' "$line" >>"$run_dir/summary"
        else
            printf '%s\n' "$line"
        fi
    done
}

# The summary is held back, so that the table stands before it.
run_ctest() {
    local status=0
    ctest --test-dir "$run_dir" --output-on-failure --no-tests=error --parallel "$MM_JOBS" \
        "${selection[@]}" "${ctest_arguments[@]}" 2>&1 | hold_summary || status=$?
    ctest_status=$status
}

# What each hunt saw: edges, executions a second.
show_hunts() {
    local log
    say "fuzz targets"
    for log in "$MM_ROOT"/build/fuzz/found/*/log; do
        [ -e "$log" ] || continue
        printf '%-12s %s\n' "$(basename "$(dirname "$log")")" \
            "$(grep -E ' cov: [0-9]+' "$log" | tail -n 1)"
    done
}

say "testing: ${labels[*]}"
: >"$run_dir/summary"
case $report in
'') ;;
coverage) find "$MM_ROOT/build/coverage" -name '*.gcda' -delete ;;
mcdc)
    export LLVM_PROFILE_FILE=$MM_ROOT/build/mcdc/profiles/%p-%m.profraw
    rm -rf "$MM_ROOT/build/mcdc/profiles"
    ;;
esac
timed "tests" run_ctest
if [ -n "$report" ] && [ "$ctest_status" = 0 ]; then
    timed "report" python3 -B "$MM_ROOT/tests/gates/coverage.py" "$MM_ROOT" "$report" ||
        ctest_status=1
fi
[[ " ${labels[*]} " != *" fuzz "* ]] || show_hunts
show_stages
cat "$run_dir/summary"
exit "$ctest_status"
