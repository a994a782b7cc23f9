# SPDX-License-Identifier: MIT
#
# What `cmake --install` puts where: the archive, the headers, the sources of the adapters,
# find_package(mm) and pkg-config. Both find the prefix from where they themselves lie, so that an
# installation may be moved.

include(CMakePackageConfigHelpers)

set(mm_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/mm")

install(TARGETS mm EXPORT mmTargets ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(DIRECTORY include/mm DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.h")

# Sources that a kernel compiles: malloc, operator new, a Rust allocator.
set(mm_adapters_dir "${CMAKE_INSTALL_DATADIR}/mm/adapters")
install(DIRECTORY examples/adapters/ DESTINATION "${mm_adapters_dir}"
    FILES_MATCHING PATTERN "*.c" PATTERN "*.h" PATTERN "*.cc" PATTERN "*.rs")

install(EXPORT mmTargets NAMESPACE mm:: DESTINATION "${mm_cmake_dir}")

configure_package_config_file(
    cmake/mmConfig.cmake.in "${PROJECT_BINARY_DIR}/cmake/mmConfig.cmake"
    INSTALL_DESTINATION "${mm_cmake_dir}" PATH_VARS mm_adapters_dir)
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(
    "${PROJECT_BINARY_DIR}/cmake/mmConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(
    FILES
        "${PROJECT_BINARY_DIR}/cmake/mmConfig.cmake"
        "${PROJECT_BINARY_DIR}/cmake/mmConfigVersion.cmake"
    DESTINATION "${mm_cmake_dir}")

install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}")

set(mm_pc_dir "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}" OR
        IS_ABSOLUTE "${CMAKE_INSTALL_DATADIR}")
    set(mm_pc_prefix "${CMAKE_INSTALL_PREFIX}")
    set(mm_pc_libdir "${CMAKE_INSTALL_FULL_LIBDIR}")
    set(mm_pc_includedir "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
    set(mm_pc_datadir "${CMAKE_INSTALL_FULL_DATADIR}")
else()
    file(RELATIVE_PATH mm_pc_up "/${mm_pc_dir}" "/")
    string(REGEX REPLACE "/$" "" mm_pc_up "${mm_pc_up}")
    set(mm_pc_prefix "\${pcfiledir}/${mm_pc_up}")
    set(mm_pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
    set(mm_pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
    set(mm_pc_datadir "\${prefix}/${CMAKE_INSTALL_DATADIR}")
endif()
set(mm_pc_definitions "")
foreach(definition IN LISTS MM_CONFIG_DEFINITIONS)
    string(APPEND mm_pc_definitions " -D${definition}")
endforeach()
configure_file(cmake/mm.pc.in "${PROJECT_BINARY_DIR}/cmake/mm.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/cmake/mm.pc" DESTINATION "${mm_pc_dir}")
