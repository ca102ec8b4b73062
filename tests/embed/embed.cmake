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
set(ENV{LD_LIBRARY_PATH} ${prefix}/${LIBDIR})
step(${PKG_CONFIG} --cflags --libs penumbra-mmu)
separate_arguments(shared UNIX_COMMAND "${out}")
step(${PKG_CONFIG} --cflags --libs --static penumbra-mmu)
string(REPLACE "-lpenumbra-mmu" "-l:libpenumbra-mmu.a" out "${out}")
separate_arguments(static UNIX_COMMAND "${out}")
separate_arguments(flags UNIX_COMMAND "${FLAGS}")
file(COPY ${SOURCE}/translate.c ${SOURCE}/translate.py DESTINATION ${WORK})

# Both libraries offer the names of the public headers, and no other.
foreach(names "-g;libpenumbra-mmu.a" "-D;libpenumbra-mmu.so")
  list(GET names 1 library)
  list(GET names 0 kind)
  step(nm ${kind} --defined-only -P ${prefix}/${LIBDIR}/${library})
  string(REGEX MATCHALL "[^\n ]+ [A-Z] " exported "${out}")
  list(LENGTH exported count)
  list(FILTER exported EXCLUDE REGEX "^pn_")
  if(exported OR count LESS 30)
    message(FATAL_ERROR "${library}: ${count} names, foreign ones: ${exported}")
  endif()
endforeach()

foreach(kind static shared)
  step(${CMAKE_COMMAND} -E chdir ${WORK}
       ${CC} -std=c11 -Wall -Wextra -Werror ${flags} translate.c ${${kind}} -o translate)
  step(${WORK}/translate)
  message(STATUS "${kind}: ${out}")
endforeach()

# C++ and another CMake project: headers that a C++ compiler takes, names without mangling.
file(WRITE ${WORK}/other/main.cc "#include <penumbra/mmu.h>
int main() { pn_mmu_options opt; pn_mmu_options_default(&opt); return pn_mmu_option_set(&opt, \"unsync=0\"); }\n")
file(WRITE ${WORK}/other/CMakeLists.txt "cmake_minimum_required(VERSION 3.25)
project(other LANGUAGES CXX)
find_package(penumbra-mmu REQUIRED)
foreach(library penumbra-mmu penumbra-mmu-shared)
  add_executable(with-\${library} main.cc)
  target_link_libraries(with-\${library} PRIVATE penumbra::\${library})
endforeach()\n")
step(${CMAKE_COMMAND} -S ${WORK}/other -B ${WORK}/other/build -D CMAKE_PREFIX_PATH=${prefix}
     "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror ${FLAGS}")
step(${CMAKE_COMMAND} --build ${WORK}/other/build)
step(${WORK}/other/build/with-penumbra-mmu)
step(${WORK}/other/build/with-penumbra-mmu-shared)

if(PYTHON) # not under the sanitizers, whose library must come first in a process
  step(${CMAKE_COMMAND} -E chdir ${WORK} ${PYTHON} translate.py ${shared})
  message(STATUS "python: ${out}")
endif()
