/* launcher.c -- was this process started as one of several? Launchers say so in the environment, which costs nothing to read: a program
 * started alone never touches MPI. */
#include "dist.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *rank, *size;
} launchers[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"}, /* Open MPI's mpirun */
    {"PMI_RANK", "PMI_SIZE"},                         /* MPICH, Intel MPI; srun --mpi=pmi2 */
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"},         /* srun; a batch script itself has no step */
};

gm_launched gm_dist_launched(void) {
    const char *recovery = getenv("OMPI_MCA_orte_enable_recovery");
    gm_launched found = {.rank = 0, .size = 1, .survive = recovery && strcmp(recovery, "0") != 0};
    for (int i = 0; i < GM_COUNT(launchers); i++) {
        const char *rank = getenv(launchers[i].rank), *size = getenv(launchers[i].size);
        int64_t r, n;
        if (!rank || !size || gm_text_int(&n, size, 1, 1 << 24, "", NULL) != GM_OK || gm_text_int(&r, rank, 0, n - 1, "", NULL) != GM_OK)
            continue;
        found.rank = (int)r;
        found.size = (int)n;
        break;
    }
    return found;
}
