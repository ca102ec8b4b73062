# SPDX-License-Identifier: MIT
# Install the MMU library into a fresh prefix, build translate.c against nothing but that
# prefix, run it. Variables: BUILD, SOURCE, WORK, CC, FLAGS, LIBDIR, PKG_CONFIG.
set(prefix ${WORK}/prefix)
file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK})

function(step)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE rc OUTPUT_VARIABLE out ERROR_VARIABLE err
                  OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT rc EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}: ${rc}\n${out}\n${err}")
  endif()
  set(out "${out}" PARENT_SCOPE)
endfunction()

step(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix} --component mmu)
# Moved once, to prove that nothing remembers where it was installed.
file(RENAME ${prefix} ${WORK}/moved)
set(prefix ${WORK}/moved)

set(ENV{PKG_CONFIG_PATH} ${prefix}/${LIBDIR}/pkgconfig)
step(${PKG_CONFIG} --cflags --libs penumbra-mmu)
separate_arguments(package UNIX_COMMAND "${out}")
separate_arguments(flags UNIX_COMMAND "${FLAGS}")
file(COPY ${SOURCE}/translate.c DESTINATION ${WORK})
step(${CMAKE_COMMAND} -E chdir ${WORK}
     ${CC} -std=c11 -Wall -Wextra -Werror ${flags} translate.c ${package} -o translate)
step(${WORK}/translate)
message(STATUS "${out}")
