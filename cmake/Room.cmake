# SPDX-License-Identifier: MIT
# One target per room; its link list is the rule of who may include whom (ARCHITECTURE.md).
get_filename_component(PENUMBRA_ROOT ${CMAKE_CURRENT_LIST_DIR}/.. ABSOLUTE)

function(penumbra_room name)
  file(GLOB srcs CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c
    ${CMAKE_CURRENT_SOURCE_DIR}/*/*.c ${CMAKE_CURRENT_SOURCE_DIR}/*.S)
  if(NOT srcs) # a room of headers only
    set(srcs ${CMAKE_CURRENT_BINARY_DIR}/empty.c)
    file(WRITE ${srcs} "")
  endif()
  add_library(pn-${name} STATIC ${srcs})
  target_include_directories(pn-${name} PUBLIC
    $<BUILD_INTERFACE:${PENUMBRA_ROOT}/include>
    $<BUILD_INTERFACE:${PENUMBRA_ROOT}/src>
    $<BUILD_INTERFACE:${PENUMBRA_ROOT}>)
  target_link_libraries(pn-${name} PUBLIC ${ARGN})
endfunction()

# A source of this room opens the library when it is needed (base/late.h): it has the name that the
# linker would give, as the macro `macro`.
function(penumbra_late source macro library)
  execute_process(COMMAND objdump -p ${library} OUTPUT_VARIABLE headers COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCH "SONAME +([^ \n]+)" found "${headers}")
  if(NOT found)
    message(FATAL_ERROR "${library} has no SONAME")
  endif()
  set_source_files_properties(${source} PROPERTIES COMPILE_DEFINITIONS
    ${macro}="${CMAKE_MATCH_1}")
  set_property(GLOBAL APPEND PROPERTY PENUMBRA_LATE ${library})
endfunction()
