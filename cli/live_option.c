/* live_option.c -- --live of lab and train. */
#include "cli.h"

const cli_option cli_live_options[] = {{"live", "PORT", "serve the report at http://127.0.0.1:PORT while the run goes on; 0: any free port",
                                        CLI_COUNT, 0, 0, 65535, "not served"},
                                       {0}};

gm_status cli_live_start(gm_live **live, int64_t port, const char *folder, bool quiet, gm_error *err) {
    int at = (int)port;
    *live = NULL;
    if (port < 0 || !cli_speaks())
        return GM_OK;
    gm_status status = gm_live_start(live, folder, &at, err);
    if (status == GM_OK && !(quiet && port > 0))
        cli_note("live: http://127.0.0.1:%d/", at);
    return status;
}
