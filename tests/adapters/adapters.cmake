# SPDX-License-Identifier: MIT
#
# The adapters of examples/adapters/, each compiled and run in a program of its own: adapters.malloc,
# adapters.new, and adapters.rust where there is a rustc.

set(mm_adapters "${PROJECT_SOURCE_DIR}/examples/adapters")
set(mm_adapters_dir "${CMAKE_CURRENT_LIST_DIR}")

# mm_add_adapter(NAME SOURCE...): mm_adapter_library is linked as well.
function(mm_add_adapter name)
    add_executable(adapter_${name} ${ARGN})
    set_target_properties(adapter_${name} PROPERTIES
        C_STANDARD 17 C_EXTENSIONS ON CXX_STANDARD 17 CXX_EXTENSIONS ON
        RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
    target_compile_options(adapter_${name} PRIVATE
        -UNDEBUG -fno-builtin ${MM_C_WARNINGS} ${MM_CXX_WARNINGS})
    target_include_directories(adapter_${name} PRIVATE "${mm_adapters}" "${mm_adapters_dir}")
    target_link_libraries(adapter_${name} PRIVATE ${mm_adapter_library} mm)
    add_test(NAME "${MM_TEST_PREFIX}adapters.${name}" COMMAND adapter_${name})
    set_tests_properties("${MM_TEST_PREFIX}adapters.${name}" PROPERTIES
        LABELS "${mm_host_label}" TIMEOUT 60)
endfunction()

mm_add_adapter(malloc "${mm_adapters_dir}/malloc_test.c" "${mm_adapters}/malloc.c")
set_source_files_properties("${mm_adapters}/malloc.c" PROPERTIES COMPILE_OPTIONS -ffreestanding)
mm_add_adapter(new "${mm_adapters_dir}/new_test.cc" "${mm_adapters}/new.cc")
target_compile_options(adapter_new PRIVATE -fsized-deallocation) # gcc's default, not every clang's

# As in a kernel: a crate without std, as a library that C links.
find_program(MM_RUSTC rustc)
set(mm_rustc_works 1)
if(MM_RUSTC)
    execute_process(COMMAND "${MM_RUSTC}" --version RESULT_VARIABLE mm_rustc_works
        OUTPUT_QUIET ERROR_QUIET)
endif()
if(mm_rustc_works STREQUAL "0")
    set(mm_rust_library "${CMAKE_CURRENT_BINARY_DIR}/libadapter_rust.a")
    add_custom_command(OUTPUT "${mm_rust_library}"
        COMMAND "${MM_RUSTC}" --edition 2021 --crate-type staticlib -O -C panic=abort
            -o "${mm_rust_library}" "${mm_adapters_dir}/rust_test.rs"
        DEPENDS "${mm_adapters_dir}/rust_test.rs" "${mm_adapters}/heap.rs"
        COMMENT "Compiling the Rust adapter" VERBATIM)
    add_custom_target(mm_adapter_rust DEPENDS "${mm_rust_library}")
    set(mm_adapter_library "${mm_rust_library}")
    mm_add_adapter(rust "${mm_adapters_dir}/rust_test.c")
    add_dependencies(adapter_rust mm_adapter_rust)
    set_property(TARGET adapter_rust APPEND PROPERTY LINK_DEPENDS "${mm_rust_library}")
else()
    message(STATUS "rustc was not found, or does not run: the Rust adapter is neither compiled nor tested")
    add_test(NAME "${MM_TEST_PREFIX}adapters.rust"
        COMMAND "${CMAKE_COMMAND}" -E echo "rustc was not found: skipped")
    set_tests_properties("${MM_TEST_PREFIX}adapters.rust" PROPERTIES
        LABELS "${mm_host_label}" SKIP_REGULAR_EXPRESSION "rustc was not found")
endif()
