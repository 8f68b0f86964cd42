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

/* Those who will be refused join too, so that all leave together. */
static int join(const cli_command *command) {
    gm_error err = {.offset = -1};
    char line[2048] = "";
    cli_catch_stop(); /* before MPI's threads */
    cli_command_line(line, sizeof line);
    gm_status status = gm_dist_begin(&ranks, &err);
    joined = status != GM_EUNSUPPORTED;
    if (status == GM_OK) /* else one might wait for ever for what another does not do */
        status = gm_dist_equal(ranks, line, strlen(line), "the command line", &err);
    return status == GM_OK ? CLI_DONE : cli_fail(command, &err);
}

int cli_ranks_begin(const cli_command *command) {
    const gm_launched launched = gm_dist_launched();
    if (launched.size == 1)
        return CLI_DONE;
    int code = join(command);
    if (code != CLI_DONE)
        return code;
    if (!command->shared)
        cli_error(command->name, "%d processes were started, and it is work for one; train, lab, measure and eval share theirs",
                  launched.size);
    else if (launched.survive && !command->queued)
        cli_error(command->name, "without a lost rank the others would wait for ever; --enable-recovery is for lab, leave it out here");
    else
        return CLI_DONE;
    return CLI_USAGE;
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
