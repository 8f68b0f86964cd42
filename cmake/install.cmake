# What `make install` puts down: program, libraries, headers, pkg-config and CMake package files, man pages, completion.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# ---- man pages and completion: the program prints them from its option tables
if(GM_CLI AND NOT CMAKE_CROSSCOMPILING)
  set(gm_pages "")
  function(gm_page file)
    add_custom_command(
      OUTPUT ${CMAKE_BINARY_DIR}/pages/${file}
      COMMAND ${CMAKE_COMMAND} -E make_directory pages
      COMMAND ghostmax-cli help ${ARGN} > pages/${file}
      DEPENDS ghostmax-cli
      VERBATIM)
    set(gm_pages ${gm_pages} ${CMAKE_BINARY_DIR}/pages/${file} PARENT_SCOPE)
  endfunction()
  gm_page(ghostmax.1 --man)
  foreach(source ${GM_CLI})
    if(source MATCHES "/cmd_([a-z0-9]+)\\.c$")
      gm_page(ghostmax-${CMAKE_MATCH_1}.1 --man ${CMAKE_MATCH_1})
    endif()
  endforeach()
  set(gm_manuals ${gm_pages})
  gm_page(ghostmax.bash --completion bash)
  gm_page(_ghostmax --completion zsh)
  gm_page(ghostmax.fish --completion fish)
  add_custom_target(pages ALL DEPENDS ${gm_pages})
  install(FILES ${gm_manuals} DESTINATION share/man/man1)
  install(FILES ${CMAKE_BINARY_DIR}/pages/ghostmax.bash DESTINATION share/bash-completion/completions RENAME ghostmax)
  install(FILES ${CMAKE_BINARY_DIR}/pages/_ghostmax DESTINATION share/zsh/site-functions)
  install(FILES ${CMAKE_BINARY_DIR}/pages/ghostmax.fish DESTINATION share/fish/vendor_completions.d)
endif()

# ---- the shared library: the static one's objects
option(GM_SHARED "build libghostmax.so too" ON)
if(GM_SANITIZE)
  set(GM_SHARED OFF)
endif()
get_target_property(gm_libraries ghostmax LINK_LIBRARIES)
if(GM_SHARED)
  add_library(ghostmax-shared SHARED $<TARGET_OBJECTS:ghostmax>)
  set_target_properties(ghostmax-shared PROPERTIES OUTPUT_NAME ghostmax EXPORT_NAME ghostmax LINKER_LANGUAGE C VERSION ${PROJECT_VERSION}
                                                   SOVERSION ${PROJECT_VERSION_MAJOR})
  target_include_directories(ghostmax-shared INTERFACE $<INSTALL_INTERFACE:include>)
  target_link_libraries(ghostmax-shared PRIVATE ${gm_libraries})
  install(TARGETS ghostmax-shared EXPORT ghostmax LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()

# ---- libraries, program, headers
set_target_properties(ghostmax PROPERTIES EXPORT_NAME static)
install(TARGETS ghostmax EXPORT ghostmax_static ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(GM_CLI)
  install(TARGETS ghostmax-cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(FILES include/ghostmax.h include/ghostmax_model.h DESTINATION include)

# ---- pkg-config: the static library's own needs are private where there is a shared one
set(gm_needs "${GM_GEMM_LIBS} ${GM_MPI_LIBS} ${OpenMP_C_FLAGS} -lm")
string(REPLACE ";" " " GM_PC_MODULES "${GM_MODULES}")
set(GM_PC_LIBS "-lghostmax")
if(GM_SHARED)
  set(GM_PC_PRIVATE .private)
  set(GM_PC_LIBS_PRIVATE "Libs.private: ${gm_needs}")
else()
  string(APPEND GM_PC_LIBS " ${gm_needs}")
endif()
file(RELATIVE_PATH GM_PC_PREFIX /x/${CMAKE_INSTALL_LIBDIR}/pkgconfig /x)
configure_file(tools/ghostmax.pc.in ghostmax.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/ghostmax.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# ---- find_package(ghostmax): ghostmax::ghostmax, and ghostmax::static with COMPONENTS static
set(gm_package ${CMAKE_INSTALL_LIBDIR}/cmake/ghostmax)
configure_package_config_file(cmake/ghostmaxConfig.cmake.in ghostmaxConfig.cmake INSTALL_DESTINATION ${gm_package})
write_basic_package_version_file(ghostmaxConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/ghostmaxConfig.cmake ${CMAKE_BINARY_DIR}/ghostmaxConfigVersion.cmake DESTINATION ${gm_package})
install(EXPORT ghostmax_static NAMESPACE ghostmax:: FILE ghostmaxStatic.cmake DESTINATION ${gm_package})
if(GM_SHARED)
  install(EXPORT ghostmax NAMESPACE ghostmax:: FILE ghostmaxShared.cmake DESTINATION ${gm_package})
endif()
