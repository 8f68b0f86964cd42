/* build_facts.c -- what this library was built from and with. */
#include "build_facts.h" /* written by tools/build_facts.cmake */
#include "gemm.h"
#include "ghostmax.h"

#define TEXT(x) #x
#define NUMBER(x) TEXT(x)
#if defined(__clang__)
#define COMPILER "clang " NUMBER(__clang_major__) "." NUMBER(__clang_minor__) "." NUMBER(__clang_patchlevel__)
#else
#define COMPILER "gcc " NUMBER(__GNUC__) "." NUMBER(__GNUC_MINOR__) "." NUMBER(__GNUC_PATCHLEVEL__)
#endif

gm_build_facts gm_build(void) {
    return (gm_build_facts){
        .version = GM_VERSION, .commit = GM_BUILD_COMMIT, .compiler = COMPILER, .gemm = gm_gemm_provider(), .mpi = GM_BUILD_MPI};
}
