# Writes OUT, the header of what a build cannot know from its own compiler: the commit, and which MPI. Rewritten only when it changes.
# Usage: cmake -DSOURCE=... -DOUT=... -DMPI=... -P build_facts.cmake
# The commit is git's; in a tarball what `git archive` put into tools/commit.txt; else nothing.
set(commit "")
find_program(GIT git)
if(GIT AND EXISTS ${SOURCE}/.git)
  execute_process(COMMAND ${GIT} -C ${SOURCE} describe --always --abbrev=12 --dirty --exclude=* OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE
                  ERROR_QUIET)
else()
  file(STRINGS ${SOURCE}/tools/commit.txt commit LIMIT_COUNT 1)
  if(commit MATCHES "Format")
    set(commit "")
  endif()
endif()
set(text "#define GM_BUILD_COMMIT \"${commit}\"\n#define GM_BUILD_MPI \"${MPI}\"\n")
set(old "")
if(EXISTS ${OUT})
  file(READ ${OUT} old)
endif()
if(NOT old STREQUAL text)
  file(WRITE ${OUT} "${text}")
endif()
