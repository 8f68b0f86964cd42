/* completion.c -- completion scripts for bash, zsh and fish. What they have in common: the first word is a command; behind an option that
 * takes a value come that value's names or paths, behind the last comma or plus of a list; `--` ends the options; else an operand's. */
#include "cli.h"
#include "manual.h"
#include "value_kinds.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Text inside '...': bash and zsh leave the quotes for a quote, fish escapes it. */
static void quoted(FILE *out, const char *text, const char *quote) {
    for (const char *p = text; *p; p++) {
        if (*p == '\'')
            fputs(quote, out);
        else
            fputc(*p, out);
    }
}

static void print_names(FILE *out, const cli_choices *c) {
    for (int i = 0; i < c->count; i++)
        fprintf(out, "%s%s", i ? " " : "", c->names[i]);
}

/* ---- bash ---------------------------------------------------------------------------------------------------------------------- */

static const char bash_body[] =
    "    # bash cuts words at = and :, which stand inside --option=value and variants: joined again\n"
    "    local words=() cur prev= command word breaks=${COMP_WORDBREAKS//[^:=]/} values= paths= list= takes= options= i lead=\n"
    "    for ((i = 1; i <= COMP_CWORD; i++)); do\n"
    "        word=${COMP_WORDS[i]}\n"
    "        if ((${#words[@]})) && [[ $word == [:=]* || ${words[-1]} == *[:=] ]]; then\n"
    "            words[-1]+=$word\n"
    "        else\n"
    "            words+=(\"$word\")\n"
    "        fi\n"
    "    done\n"
    "    cur=${words[-1]} command=${words[0]}\n"
    "    ((${#words[@]} > 1)) && prev=${words[-2]}\n"
    "    if [[ $cur == --*=* ]]; then\n"
    "        prev=${cur%%=*} lead=${cur%%=*}= cur=${cur#*=}\n"
    "    fi\n"
    "    for ((i = 1; i < ${#words[@]} - 1; i++)); do\n"
    "        [[ ${words[i]} == -- ]] && prev=--\n"
    "    done\n";

static const char bash_end[] = "    if [[ -z $takes && $cur == -* && $prev != -- ]]; then\n"
                               "        values=$options paths=\n"
                               "    fi\n"
                               "    if [[ $list ]]; then\n"
                               "        lead+=${cur%\"${cur##*[,+]}\"} cur=${cur##*[,+]}\n"
                               "    fi\n"
                               "    mapfile -t COMPREPLY < <(\n"
                               "        compgen -P \"$lead\" -W \"$values\" -- \"$cur\"\n"
                               "        [[ $paths == files ]] && compgen -P \"$lead\" -f -- \"$cur\"\n"
                               "        [[ $paths == folders ]] && compgen -P \"$lead\" -d -- \"$cur\"\n"
                               "    )\n"
                               "    [[ $paths && ! $lead ]] && compopt -o filenames 2>/dev/null\n"
                               "    [[ $list || ${COMPREPLY[*]} == *= ]] && compopt -o nospace 2>/dev/null\n"
                               "    if [[ $breaks ]]; then\n"
                               "        word=$lead$cur\n"
                               "        word=${word%\"${word##*[$breaks]}\"}\n"
                               "        COMPREPLY=(\"${COMPREPLY[@]#\"$word\"}\")\n"
                               "    fi\n"
                               "}\n"
                               "complete -F _ghostmax ghostmax\n";

static void bash_value(FILE *out, const char *value) {
    cli_choices c;
    cli_choices_of(&c, value);
    if (c.count) {
        fprintf(out, " values='");
        print_names(out, &c);
        fprintf(out, "'");
    }
    if (c.paths)
        fprintf(out, " paths=%s", c.paths == CLI_FILES ? "files" : "folders");
    if (c.list)
        fprintf(out, " list=1");
}

static void bash_script(FILE *out) {
    const cli_command *command;
    fprintf(out, "# bash completion of ghostmax, by `ghostmax help --completion bash`\n\n_ghostmax() {\n%s", bash_body);
    fprintf(out, "    if ((${#words[@]} == 1)); then\n        values='");
    for (int i = 0; (command = cli_command_list(i)); i++)
        fprintf(out, "%s ", command->name);
    fprintf(out, "--help --version'\n    fi\n    case \"$command $prev\" in\n");
    for (int i = 0; (command = cli_command_list(i)); i++) {
        cli_row *rows = cli_rows(command);
        for (cli_row *row = rows; row && row->option.name; row++) {
            if (!row->option.value)
                continue;
            fprintf(out, "    '%s --%s') takes=1", command->name, row->option.name);
            bash_value(out, row->option.value);
            fprintf(out, " ;;\n");
        }
        free(rows);
    }
    fprintf(out, "    esac\n    ((${#words[@]} == 1)) && takes=1\n    [[ $takes ]] || case $command in\n");
    for (int i = 0; (command = cli_command_list(i)); i++) {
        cli_row *rows = cli_rows(command);
        fprintf(out, "    %s)\n        options='", command->name);
        for (cli_row *row = rows; row && row->option.name; row++)
            fprintf(out, "--%s ", row->option.name);
        fprintf(out, "--help'\n       ");
        bash_value(out, command->operands);
        fprintf(out, "\n        ;;\n");
        free(rows);
    }
    fprintf(out, "    esac\n%s", bash_end);
}

/* ---- zsh ----------------------------------------------------------------------------------------------------------------------- */

/* A function of its own for every value that offers something: colons in names then need no escapes. */
static void zsh_function(FILE *out, const char *command, const char *option, const cli_choices *c) {
    fprintf(out, "_ghostmax_%s_%s() {\n", command, option);
    if (c->list)
        fprintf(out, "    compset -P '*[,+]'\n");
    if (c->count) {
        fprintf(out, "    compadd %s-- ", c->list ? "-S '' " : "");
        print_names(out, c);
        fputc('\n', out);
    }
    if (c->paths)
        fprintf(out, "    _files%s\n", c->paths == CLI_FOLDERS ? " -/" : "");
    fprintf(out, "}\n");
}

static void zsh_text(FILE *out, const char *text) {
    for (const char *p = text; *p; p++) {
        if (strchr("[]:\\", *p))
            fputc('\\', out);
        fputs(*p == '\'' ? "'\\''" : (char[]){*p, 0}, out);
    }
}

static void zsh_value(FILE *out, const char *command, const char *option, const char *value) {
    cli_choices c;
    cli_choices_of(&c, value);
    fprintf(out, ":");
    zsh_text(out, value);
    if (c.count || c.paths)
        fprintf(out, ":_ghostmax_%s_%s", command, option);
    else
        fprintf(out, ": ");
}

static void zsh_script(FILE *out) {
    const cli_command *command;
    fprintf(out, "#compdef ghostmax\n# zsh completion of ghostmax, by `ghostmax help --completion zsh`\n\n");
    for (int i = 0; (command = cli_command_list(i)); i++) {
        cli_row *rows = cli_rows(command);
        cli_choices c;
        for (cli_row *row = rows; row && row->option.name; row++) {
            cli_choices_of(&c, row->option.value ? row->option.value : "");
            if (c.count || c.paths)
                zsh_function(out, command->name, row->option.name, &c);
        }
        cli_choices_of(&c, command->operands);
        if (c.count || c.paths)
            zsh_function(out, command->name, "operand", &c);
        free(rows);
    }
    fprintf(out, "\n_ghostmax() {\n    local -a commands=(\n");
    for (int i = 0; (command = cli_command_list(i)); i++) {
        fprintf(out, "        '%s:", command->name);
        zsh_text(out, command->summary);
        fprintf(out, "'\n");
    }
    fprintf(out,
            "    )\n    if ((CURRENT == 2)); then\n        _describe -t commands command commands\n"
            "        compadd -- --help --version\n        return\n    fi\n    shift words\n    ((CURRENT--))\n    case $words[1] in\n");
    for (int i = 0; (command = cli_command_list(i)); i++) {
        cli_row *rows = cli_rows(command);
        fprintf(out, "    %s)\n        _arguments -S \\\n", command->name);
        for (cli_row *row = rows; row && row->option.name; row++) {
            const cli_option *o = &row->option;
            fprintf(out, "            '%s--%s%s[", o->type == CLI_TEXTS ? "*" : "", o->name, o->value ? "=" : "");
            zsh_text(out, o->help);
            fprintf(out, "]");
            if (o->value)
                zsh_value(out, command->name, o->name, o->value);
            fprintf(out, "' \\\n");
        }
        fprintf(out, "            '(- *)'{-h,--help}'[help]'");
        if (*command->operands) {
            fprintf(out, " \\\n            '%s", command->operands_max > 1 ? "*" : "1");
            zsh_value(out, command->name, "operand", command->operands);
            fprintf(out, "'");
        }
        fprintf(out, "\n        ;;\n");
        free(rows);
    }
    fprintf(out, "    esac\n}\n\nif [[ $zsh_eval_context == *loadautofunc* ]]; then\n    _ghostmax \"$@\"\nelse\n    compdef _ghostmax "
                 "ghostmax\nfi\n");
}

/* ---- fish ---------------------------------------------------------------------------------------------------------------------- */

static const char fish_functions[] = "function __ghostmax_command\n"
                                     "    set -l words (commandline -opc)\n"
                                     "    test (count $words) -gt 1; and test $words[2] = $argv[1]\n"
                                     "end\n\n"
                                     "function __ghostmax_none\n"
                                     "    test (count (commandline -opc)) -eq 1\n"
                                     "end\n\n"
                                     "# the names behind what stands before the last comma or plus\n"
                                     "function __ghostmax_list\n"
                                     "    set -l value (commandline -ct | string replace -r '^--[^=]*=' '')\n"
                                     "    set -l lead (string match -r '^.*[,+]' -- $value; or echo '')\n"
                                     "    printf '%s\\n' $lead$argv\n"
                                     "end\n\n"
                                     "complete -c ghostmax -f\n"
                                     "complete -c ghostmax -n __ghostmax_none -l help\n"
                                     "complete -c ghostmax -n __ghostmax_none -l version\n";

static void fish_value(FILE *out, const char *value, bool operand) {
    cli_choices c;
    cli_choices_of(&c, value);
    if (!operand)
        fprintf(out, c.paths == CLI_FILES ? " -r -F" : " -x");
    else if (c.paths == CLI_FILES)
        fprintf(out, " -F");
    if (c.count == 0 && c.paths != CLI_FOLDERS)
        return;
    fprintf(out, " -a '");
    if (c.list)
        fprintf(out, "(__ghostmax_list ");
    print_names(out, &c);
    if (c.list)
        fprintf(out, ")");
    if (c.paths == CLI_FOLDERS)
        fprintf(out, "%s(__fish_complete_directories (commandline -ct) \"\")", c.count ? " " : "");
    fprintf(out, "'");
}

static void fish_script(FILE *out) {
    const cli_command *command;
    fprintf(out, "# fish completion of ghostmax, by `ghostmax help --completion fish`\n\n%s", fish_functions);
    for (int i = 0; (command = cli_command_list(i)); i++) {
        fprintf(out, "complete -c ghostmax -n __ghostmax_none -a %s -d '", command->name);
        quoted(out, command->summary, "\\'");
        fprintf(out, "'\n");
    }
    for (int i = 0; (command = cli_command_list(i)); i++) {
        cli_row *rows = cli_rows(command);
        fprintf(out, "\n");
        for (cli_row *row = rows; row && row->option.name; row++) {
            fprintf(out, "complete -c ghostmax -n '__ghostmax_command %s' -l %s -d '", command->name, row->option.name);
            quoted(out, row->option.help, "\\'");
            fprintf(out, "'");
            if (row->option.value)
                fish_value(out, row->option.value, false);
            fprintf(out, "\n");
        }
        fprintf(out, "complete -c ghostmax -n '__ghostmax_command %s' -l help -s h -d 'help'\n", command->name);
        if (*command->operands) {
            fprintf(out, "complete -c ghostmax -n '__ghostmax_command %s'", command->name);
            fish_value(out, command->operands, true);
            fprintf(out, "\n");
        }
        free(rows);
    }
}

void cli_completion_print(FILE *out, int shell) {
    static void (*const scripts[])(FILE *) = {bash_script, zsh_script, fish_script};
    scripts[shell](out);
}
