/* ranks.c -- the program as one of several that mpirun or srun started: rank 0 speaks for all, and all end with one exit code. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static gm_dist *ranks;
static bool silent, joined;

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

int cli_ranks_begin(const char *command) {
    gm_error err = {.offset = -1};
    char line[2048] = "";
    if (gm_dist_launched().size == 1)
        return CLI_DONE;
    cli_catch_stop(); /* before MPI's threads */
    cli_command_line(line, sizeof line);
    gm_status status = gm_dist_begin(&ranks, &err);
    joined = status != GM_EUNSUPPORTED;
    if (status == GM_OK) /* else one might wait for ever for what another does not do */
        status = gm_dist_equal(ranks, line, strlen(line), "the command line", &err);
    if (status != GM_OK)
        cli_error(command, "%s", err.msg);
    return status == GM_OK ? CLI_DONE : status == GM_EINVAL ? CLI_USAGE : CLI_FAILED;
}

bool cli_ranks_may(const cli_command *command) {
    if (ranks && !command->shared)
        cli_error(command->name, "%d processes were started, and it is work for one; train, lab, measure and eval share theirs",
                  gm_dist_size(ranks));
    else if (ranks && gm_dist_launched().survive && !command->queued)
        cli_error(command->name, "without a lost rank the others would wait for ever; --enable-recovery is for lab, leave it out here");
    else
        return true;
    return false;
}

void cli_ranks_stand_in(void) {
    silent = false;
    cli_note("rank 0 was lost; rank %d has written the results", gm_dist_rank(ranks));
}

/* A launcher ends all when one ends with an error, so nobody does before rank 0 has spoken: those who joined leave together, and where none
 * did, rank 0's exit code is enough. */
int cli_ranks_end(int code) {
    gm_dist_end(ranks);
    ranks = NULL;
    return silent && !joined ? CLI_DONE : code;
}
