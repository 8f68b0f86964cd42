/* cmd_help.c -- help, and what is made of the same tables: man pages, shell completion, docs/cli.md. */
#include "cli.h"
#include "manual.h"

typedef struct help_args {
    cli_common common;
    bool man, markdown;
    int shell; /* of --completion; -1: not given */
} help_args;

static void help_defaults(void *args) {
    *(help_args *)args = (help_args){.shell = -1};
}

static const cli_option help_options[] = {
    {"man", NULL, "as a man page (of the program, or of COMMAND)", CLI_FLAG, offsetof(help_args, man), 0, 0, NULL},
    {"markdown", NULL, "everything in one document: docs/cli.md", CLI_FLAG, offsetof(help_args, markdown), 0, 0, NULL},
    {"completion", "bash|zsh|fish", "a script that completes commands, options and values in this shell", CLI_CHOICE,
     offsetof(help_args, shell), 0, 0, NULL},
    {0}};

static const cli_group help_groups[] = {{"Options", help_options, 0, false}, CLI_END};

static int help_run(const cli_command *self, void *arguments) {
    const help_args *args = arguments;
    const char *name = args->common.operand_count ? args->common.operands[0] : NULL;
    const cli_command *command = name ? cli_command_named(name) : NULL;
    if (name && !command)
        return cli_fail_command(name);
    if (args->man + args->markdown + (args->shell >= 0) > 1) {
        cli_error(self->name, "--man, --markdown and --completion are three documents; ask for one");
        return CLI_USAGE;
    }
    if (name && (args->markdown || args->shell >= 0)) {
        cli_error(self->name, "--%s is about every command; leave out '%s'", args->markdown ? "markdown" : "completion", name);
        return CLI_USAGE;
    }
    cli_page page = {.out = stdout, .format = args->man ? CLI_MAN : args->markdown ? CLI_MARKDOWN : CLI_PLAIN};
    if (args->shell >= 0)
        cli_completion_print(stdout, args->shell);
    else if (args->markdown)
        cli_manual_all(&page);
    else if (command)
        cli_manual_command(&page, command);
    else
        cli_manual_program(&page);
    return CLI_DONE;
}

const cli_command cli_command_help = {
    .name = "help",
    .summary = "help, man pages, completion for bash, zsh, fish",
    .operands = "[COMMAND]",
    .operands_max = 1,
    .about = "Prints the overview or a command's help; the same as a man page; or a script for a shell that completes commands, options, "
             "variants, "
             "presets, words and files. `make install` installs all of them.",
    .example = "ghostmax help --completion bash > ~/.local/share/bash-completion/completions/ghostmax",
    .size = sizeof(help_args),
    .groups = help_groups,
    .defaults = help_defaults,
    .run = help_run,
};
