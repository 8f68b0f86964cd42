/* main.c -- finds the command, checks the line against its table, runs it, and answers for what reached stdout. */
#include "cli.h"
#include "manual.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const cli_command *const commands[] = {
#define CLI_POINTER(name) &cli_command_##name,
    CLI_COMMANDS(CLI_POINTER)
#undef CLI_POINTER
};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

/* ---- what the commands share (cli.h) -------------------------------------------------------------------------------------- */

void cli_error(const char *command, const char *format, ...) {
    va_list args;
    cli_progress_end();
    if (!cli_speaks())
        return;
    fprintf(stderr, "ghostmax%s%s: ", *command ? " " : "", command);
    va_start(args, format);
    cli_say(format, args);
    va_end(args);
}

int cli_fail(const cli_command *command, const gm_error *err) {
    if (err->offset >= 0 && !strstr(err->msg, "byte "))
        cli_error(command->name, "%s (byte %lld)", err->msg, (long long)err->offset);
    else
        cli_error(command->name, "%s", err->msg);
    if (err->code == GM_EINVAL)
        return CLI_USAGE;
    return err->code == GM_EDIVERGED ? CLI_DIVERGED : CLI_FAILED;
}

gm_status cli_context(gm_ctx **ctx, const cli_common *common, gm_error *err) {
    return gm_ctx_create(ctx, &(gm_ctx_options){.threads = (int)common->threads, .isa = common->isa, .dist = cli_ranks()}, err);
}

static char **line_arguments;

void cli_command_line(char *dst, size_t size) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+:,./%@";
    size_t used = (size_t)snprintf(dst, size, "ghostmax");
    for (char **argument = line_arguments + 1; *argument && used < size; argument++) {
        bool quote = !**argument || (*argument)[strspn(*argument, plain)];
        used += (size_t)snprintf(dst + used, size - used, quote ? " '%s'" : " %s", *argument);
    }
}

json_t *cli_json_number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

/* jansson leaves out what it gets no memory for: the result is then not given out, and main ends with an error. */
static bool json_starved;
static json_malloc_t json_get;

static void *watched_malloc(size_t n) {
    void *p = json_get(n);
    json_starved |= !p;
    return p;
}

static void watch_json(void) {
    json_free_t give;
    json_get_alloc_funcs(&json_get, &give);
    json_set_alloc_funcs(watched_malloc, give);
}

/* Nine digits: all that a float32 result carries. */
void cli_print_json(json_t *root) {
    char *text = json_starved ? NULL : json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_starved |= !text;
    if (!json_starved)
        puts(text);
    free(text);
    json_decref(root);
}

/* ---- the build ------------------------------------------------------------------------------------------------------------- */

json_t *cli_build_json(void) {
    gm_build_facts build = gm_build();
    json_t *built = json_array(), *available = json_array();
    const char *isa;
    bool here;
    for (int i = 0; (isa = gm_isa_list(i, &here)); i++) {
        json_array_append_new(built, json_string(isa));
        if (here)
            json_array_append_new(available, json_string(isa));
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o}", "version", build.version, "commit", build.commit, "compiler", build.compiler,
                     "gemm", build.gemm, "mpi", build.mpi, "isa_built", built, "isa_available", available);
}

static void print_words(json_t *words) {
    size_t i;
    json_t *word;
    json_array_foreach(words, i, word) printf(" %s", json_string_value(word));
}

void cli_print_build(bool json) {
    json_t *facts = cli_build_json();
    gm_build_facts build = gm_build();
    if (json) {
        cli_print_json(facts);
        return;
    }
    printf("ghostmax %s\ncommit    %s\nkernels  ", build.version, *build.commit ? build.commit : "unknown: not built in a checkout");
    print_words(json_object_get(facts, "isa_built"));
    printf("\nrunnable ");
    print_words(json_object_get(facts, "isa_available"));
    printf("\nproducts  %s\nMPI       %s\ncompiler  %s\n", build.gemm, *build.mpi ? build.mpi : "none", build.compiler);
    json_decref(facts);
}

/* ---- which command -------------------------------------------------------------------------------------------------------- */

const cli_command *cli_command_list(int index) {
    return index >= 0 && index < COMMAND_COUNT ? commands[index] : NULL;
}

const cli_command *cli_command_named(const char *name) {
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    }
    return NULL;
}

int cli_fail_command(const char *name) {
    const char *names[COMMAND_COUNT + 1] = {0};
    for (int i = 0; i < COMMAND_COUNT; i++)
        names[i] = commands[i]->name;
    const char *nearest = gm_text_nearest(name, names);
    if (nearest)
        cli_error("", "unknown command '%s'; did you mean '%s'?", name, nearest);
    else
        cli_error("", "unknown command '%s'; `ghostmax --help` lists them", name);
    return CLI_USAGE;
}

static int run_command(const cli_command *command, int argc, char **argv) {
    int code = CLI_USAGE;
    void *args = calloc(1, command->size);
    if (!args) {
        cli_error(command->name, "out of memory");
        return CLI_FAILED;
    }
    if (cli_ranks_may(command) && cli_parse(command, args, argc, argv, &code))
        code = command->run(command, args);
    free(args);
    return code;
}

/* `--version [--json]`: facts of the build; what of the machine belongs to them is which kernels it can run. */
static int print_version(int argc, char **argv) {
    bool json = argc == 1 && strcmp(argv[0], "--json") == 0;
    if (argc > 0 && !json) {
        cli_error("", "--version takes nothing but --json, not '%s'", argv[strcmp(argv[0], "--json") == 0]);
        return CLI_USAGE;
    }
    cli_print_build(json);
    return CLI_DONE;
}

static int dispatch(int argc, char **argv) {
    const char *word = argc > 1 ? argv[1] : "";
    if (strcmp(word, "--version") == 0)
        return print_version(argc - 2, argv + 2);
    if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
        cli_manual_program(&(cli_page){.out = stdout});
        return CLI_DONE;
    }
    int code = cli_ranks_begin(word);
    if (code != CLI_DONE)
        return code;
    if (!*word) {
        if (cli_speaks())
            cli_manual_program(&(cli_page){.out = stderr});
        return CLI_USAGE;
    }
    const cli_command *command = cli_command_named(word);
    return command ? run_command(command, argc - 2, argv + 2) : cli_fail_command(word);
}

/* An earlier failed write left no errno. */
static bool reader_is_gone(void) {
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&out, 1, 0) == 1 && (out.revents & POLLERR);
}

/* Did all of the result reach stdout? */
static bool result_is_out(const char *command) {
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    int reason = errno ? errno : EIO;
    if (reason != EPIPE && !reader_is_gone()) /* else it has seen enough: nothing to say */
        cli_error(command, "cannot write the result to stdout: %s", strerror(reason));
    return false;
}

/* A closed one's number would go to the next file that is opened, and progress would be written into a run's log. Its place is taken by
 * what can be read or written as little. */
static void hold_standard_streams(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            _exit(CLI_FAILED);
    }
}

int main(int argc, char **argv) {
    const char *command = argc > 1 ? argv[1] : "";
    line_arguments = argv;
    hold_standard_streams();
    cli_restore_hangup();
    cli_ranks_silence();
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is a failed write, answered below, */
    signal(SIGXFSZ, SIG_IGN); /* and so is a file over the limit, answered by its writer */
    watch_json();
    int code = dispatch(argc, argv);
    cli_progress_end();
    if (code == CLI_DONE && json_starved) {
        cli_error(command, "not enough memory for the result; free some, or use a smaller model, batch or context");
        code = CLI_FAILED;
    }
    return cli_ranks_end(result_is_out(command) ? code : CLI_FAILED);
}
