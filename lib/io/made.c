/* made.c -- version, commit, command, time and machine. */
#include "made.h"

#include <sys/utsname.h>
#include <time.h>

json_t *gm_made_json(const gm_ctx *ctx, const char *command) {
    const gm_build_facts build = gm_build();
    struct utsname name;
    struct tm utc;
    char now[32] = "", system[160] = "";
    time_t seconds = time(NULL);
    if (gmtime_r(&seconds, &utc))
        strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &utc);
    if (uname(&name) == 0)
        snprintf(system, sizeof system, "%.40s %.60s %.40s", name.sysname, name.release, name.machine);
    json_t *machine = json_pack("{s:s, s:s, s:i, s:s, s:s}", "isa", gm_ctx_isa(ctx), "gemm", gm_ctx_gemm(ctx), "threads",
                                gm_ctx_threads(ctx), "compiler", build.compiler, "system", system);
    json_t *text = json_string(command ? command : ""); /* NULL where it is no UTF-8 */
    return json_pack("{s:s, s:s, s:o, s:s, s:o}", "version", build.version, "commit", build.commit, "command",
                     text ? text : json_string(""), "time", now, "machine", machine);
}
