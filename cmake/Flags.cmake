# SPDX-License-Identifier: MIT
# Warnings and sanitizers, the same for every target.
# Empty, so that a file which defines it too does not redefine it.
add_compile_definitions(_GNU_SOURCE=)
add_compile_options(-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
                    -Wpointer-arith -Wno-unused-parameter)
if(CMAKE_C_COMPILER_ID MATCHES "Clang") # struct kvm_msrs before its entries
  add_compile_options(-Wno-gnu-variable-sized-type-not-at-end)
else() # gcc 12 does not see that a nonzero return means "not set"
  add_compile_options(-Wno-maybe-uninitialized)
endif()
if(PENUMBRA_WERROR)
  add_compile_options(-Werror)
endif()

if(PENUMBRA_SANITIZE)
  add_compile_options(-fsanitize=${PENUMBRA_SANITIZE} -fno-sanitize-recover=all
                      -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${PENUMBRA_SANITIZE})
endif()

# Guest memory is the guest's: what two vCPUs do to it at once is no race of ours.
if(PENUMBRA_SANITIZE MATCHES "thread")
  set(PENUMBRA_TSAN_OPTIONS "TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/tsan.supp halt_on_error=1")
endif()

if(PENUMBRA_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "PENUMBRA_FUZZ needs clang: cmake --preset fuzz")
  endif()
  # Coverage in every room; the fuzz executables alone link libFuzzer's main().
  add_compile_options(-fsanitize=fuzzer-no-link)
  add_link_options(-fsanitize=fuzzer-no-link)
endif()
