# SPDX-License-Identifier: MIT
#
# Tests that hear every load and store of the library, tests/host_events/test_*.c: the library's
# own sources, compiled a second time with the compiler's instrumentation for data races, and
# linked with support/events/ in place of the sanitizer's run time. A new file is found by itself;
# its test is called host.NAME, as those of tests/host/ are.

include(CheckCCompilerFlag)

# What the run time has no use for, and what the compiler would leave out as redundant for races.
set(mm_events_flags -fsanitize=thread)
foreach(flag IN ITEMS
        "--param=tsan-instrument-func-entry-exit=0"
        "SHELL:-mllvm -tsan-instrument-func-entry-exit=0"
        "SHELL:-mllvm -tsan-instrument-read-before-write=1")
    string(REPLACE "SHELL:" "" bare "${flag}")
    string(MAKE_C_IDENTIFIER "MM_HAVE_${bare}" known)
    check_c_compiler_flag("-Werror ${bare}" ${known})
    if(${known})
        list(APPEND mm_events_flags "${flag}")
    endif()
endforeach()

# The native table of the CPU stays out, as it does of every host program.
set(mm_events_sources ${mm_sources})
list(FILTER mm_events_sources EXCLUDE REGEX "native")
list(TRANSFORM mm_events_sources PREPEND "${PROJECT_SOURCE_DIR}/")
add_library(mm_events_objects OBJECT ${mm_events_sources})
# Who reads compile_commands.json (clang-tidy) finds each source once, with the flags of `mm`.
set_target_properties(mm_events_objects PROPERTIES
    C_STANDARD 17 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF EXPORT_COMPILE_COMMANDS OFF)
target_include_directories(mm_events_objects PRIVATE
    "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src")
target_compile_definitions(mm_events_objects PRIVATE ${MM_CONFIG_DEFINITIONS})
target_compile_options(mm_events_objects PRIVATE
    ${MM_LIBRARY_FLAGS} ${MM_C_WARNINGS} -g
    "$<$<COMPILE_LANGUAGE:C>:${mm_events_flags}>")

# One object, in which the calls of the host's functions, the compiler's own among them, have got
# names of support/events/. As an object it comes before the archive: no member of that is pulled
# in.
set(mm_events_object "${CMAKE_CURRENT_BINARY_DIR}/mm_events.o")
add_custom_command(
    OUTPUT "${mm_events_object}"
    COMMAND "${CMAKE_LINKER}" -r -o "${mm_events_object}" "$<TARGET_OBJECTS:mm_events_objects>"
    COMMAND "${CMAKE_OBJCOPY}"
        --redefine-sym memcpy=t_events_memcpy --redefine-sym memmove=t_events_memmove
        --redefine-sym memset=t_events_memset --redefine-sym memcmp=t_events_memcmp
        "${mm_events_object}"
    DEPENDS mm_events_objects "$<TARGET_OBJECTS:mm_events_objects>"
    COMMENT "Linking the observed library"
    COMMAND_EXPAND_LISTS VERBATIM)
add_custom_target(mm_events DEPENDS "${mm_events_object}")

file(GLOB mm_events_support CONFIGURE_DEPENDS support/events/*.c)
add_library(mm_test_events STATIC ${mm_events_support})
set_target_properties(mm_test_events PROPERTIES C_STANDARD 17 C_EXTENSIONS ON)
target_compile_options(mm_test_events PRIVATE -UNDEBUG ${MM_C_WARNINGS})
target_include_directories(mm_test_events PUBLIC support/events)
target_link_libraries(mm_test_events PUBLIC mm_test_support)

file(GLOB mm_events_tests CONFIGURE_DEPENDS host_events/test_*.c)
foreach(source IN LISTS mm_events_tests)
    get_filename_component(name "${source}" NAME_WE)
    string(REGEX REPLACE "^test_" "" room "${name}")
    list(APPEND mm_host_programs "$<TARGET_FILE:${name}>")
    add_executable(${name} "${source}" "${mm_events_object}")
    set_source_files_properties("${mm_events_object}" PROPERTIES
        EXTERNAL_OBJECT ON GENERATED ON)
    add_dependencies(${name} mm_events)
    set_target_properties(${name} PROPERTIES
        C_STANDARD 17 C_EXTENSIONS ON
        RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
    target_compile_options(${name} PRIVATE ${mm_fast_flags} -UNDEBUG ${MM_C_WARNINGS})
    target_compile_definitions(${name} PRIVATE MM_TEST_SANITIZED=0)
    target_include_directories(${name} PRIVATE host)
    target_link_libraries(${name} PRIVATE
        mm_test_events mm_test_support mm ${CMOCKA_LIBRARIES} Threads::Threads)

    set(test "${MM_TEST_PREFIX}host.${room}")
    add_test(NAME "${test}" COMMAND ${name})
    set_tests_properties("${test}" PROPERTIES
        LABELS ${mm_host_label} TIMEOUT ${mm_host_timeout})
    add_test(NAME "${test}.full" COMMAND ${name})
    set_tests_properties("${test}.full" PROPERTIES
        LABELS "${mm_host_label};long" TIMEOUT 1500 ENVIRONMENT MM_TEST_FULL=1)
endforeach()
