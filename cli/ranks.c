/* ranks.c -- the program as one of several that mpirun or srun started: rank 0 speaks for all, and all end with one exit code. */
#include "cli.h"

#include <stdlib.h>
#include <unistd.h>

static gm_dist *ranks;
static bool silent;

gm_dist *cli_ranks(void) {
    return ranks;
}

bool cli_speaks(void) {
    return !silent;
}

void cli_ranks_silence(void) {
    silent = gm_dist_launched().rank > 0;
    if (silent && !freopen("/dev/null", "w", stdout))
        _exit(CLI_FAILED); /* a result that stands there P times is none */
}

int cli_ranks_begin(const cli_command *command) {
    gm_error err = {.offset = -1};
    const gm_launched launched = gm_dist_launched();
    const int size = launched.size;
    if (size == 1)
        return CLI_DONE;
    if (!command->shared) {
        cli_error(command->name, "%d processes were started, and it is work for one; train, lab, measure and eval share theirs", size);
        return CLI_USAGE;
    }
    if (launched.survive && !command->queued) {
        cli_error(command->name, "without a lost rank the others would wait for ever; --enable-recovery is for lab, leave it out here");
        return CLI_USAGE;
    }
    cli_catch_stop(); /* before MPI's threads */
    return gm_dist_begin(&ranks, &err) == GM_OK ? CLI_DONE : cli_fail(command, &err);
}

void cli_ranks_stand_in(void) {
    silent = false;
    cli_note("rank 0 was lost; rank %d has written the results", gm_dist_rank(ranks));
}

void cli_ranks_end(void) {
    gm_dist_end(ranks);
    ranks = NULL;
}
