#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# test.sh [OPTION...] [CTEST-OPTION...]: build everything and run the tests through ctest
#
# Installs what is missing (deps.sh), builds below build/, and ends with ctest's summary. Without
# an option it runs: host tests (gcc, clang, and both with ASan and UBSan), boots in QEMU, and the
# gates (rules about the code itself).
#   --host        host tests of the plain gcc build
#   --qemu        boots of the minikernel
#   --sanitize    host tests under ASan and UBSan, gcc and clang
#   --gate        the gates
#                 (several of these add up)
#   --full        long campaigns too, and host tests under TSan
#   -R REGEX, -E REGEX, -V, --rerun-failed, --repeat ARG and the like go to ctest
#   --help        this text
# MM_JOBS in the environment is how many jobs run at a time (the number of processors).

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

labels=()
full=0
ctest_arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    --host | --qemu | --sanitize | --gate) labels+=("${1#--}") ;;
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
if [ ${#labels[@]} -eq 0 ]; then
    selected_all=1
    labels=(host qemu sanitize gate)
fi

# Which builds the selection needs.
presets=()
for label in "${labels[@]}"; do
    case $label in
    host | qemu | gate) presets+=(dev) ;;
    sanitize)
        presets+=(asan-gcc asan-clang)
        [ "$full" = 0 ] || presets+=(tsan)
        ;;
    esac
done
[ "$selected_all" = 0 ] || presets+=(clang)
mapfile -t presets < <(printf '%s\n' "${presets[@]}" | awk '!seen[$0]++')

"$MM_ROOT/scripts/deps.sh"

started=$SECONDS
for preset in "${presets[@]}"; do
    configure "$preset"
    build "$preset"
done
say "built ${presets[*]} in $((SECONDS - started)) s"

# One ctest run over all the builds, so that there is one summary.
run_dir=$MM_ROOT/build/ctest
mkdir -p "$run_dir"
for preset in "${presets[@]}"; do
    printf 'subdirs("%s")\n' "$(binary_dir "$preset")"
done >"$run_dir/CTestTestfile.cmake"

pattern="^($(IFS='|' && echo "${labels[*]}"))$"
selection=(-L "$pattern")
[ "$full" = 1 ] || selection+=(-LE '^long$')

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

say "testing: ${labels[*]}"
ctest --test-dir "$run_dir" --output-on-failure --no-tests=error --parallel "$MM_JOBS" \
    "${selection[@]}" "${ctest_arguments[@]}"
