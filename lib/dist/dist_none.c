/* dist_none.c -- a build without MPI: one process does all the work, and several are refused before they do it several times. */
#include "wire.h"

#ifndef GM_MPI

gm_status gm_wire_open(gm_wire *w, gm_error *err) {
    (void)w;
    return gm_fail(err, GM_EUNSUPPORTED,
                   "started as %d processes, but this build has no MPI; install libopenmpi-dev and build again, or start it alone",
                   gm_dist_launched().size);
}

#endif
