/* fuzz_options.c -- the grammar of the command line: the first line names a command, each line after it is one argument. What is accepted
 * says the same with "=" between an option and its value; what is not is answered in one line. The same for the dimensions of a model
 * ("width=128,heads=2"), which any line may be. */
#include "cli.h"

#include "fuzz.h"

#include <stdarg.h>

enum { ARGUMENTS_MAX = 24 };

static char message[1024]; /* of the last refusal */

void __wrap_cli_error(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
void __wrap_cli_error(const char *command, const char *format, ...) {
    va_list args;
    (void)command;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    FUZZ_CHECK(*message && !strchr(message, '\n'));
}

/* The arguments' struct, with the operands (which the parser moves to the front of argv) in argv; NULL: refused. */
static char *parsed(const cli_command *command, char **argv, int argc) {
    char *args = calloc(1, command->size);
    int code;
    FUZZ_CHECK(args);
    *message = 0;
    if (cli_parse(command, args, argc, argv, &code))
        return args;
    FUZZ_CHECK(code == CLI_USAGE && *message);
    free(args);
    return NULL;
}

/* argv[i] and the value behind it as one argument: the byte between them is the zero that ended the first. */
static void check_joined(const cli_command *command, const char *args, char **operands, char *const *argv, int argc, int i) {
    char *joined[ARGUMENTS_MAX];
    int n = 0;
    for (int k = 0; k < argc; k++) {
        if (k != i + 1)
            joined[n++] = argv[k];
    }
    argv[i + 1][-1] = '=';
    char *same = parsed(command, joined, n);
    if (!same) {
        FUZZ_CHECK(strstr(message, "takes no value"));
    } else {
        cli_common *common = (cli_common *)(void *)same;
        for (int k = 0; k < common->operand_count; k++)
            FUZZ_CHECK(common->operands[k] == operands[k]);
        common->operands = operands;
        FUZZ_CHECK(memcmp(same, args, command->size) == 0);
        free(same);
    }
    argv[i + 1][-1] = 0;
}

static void check_dimensions(const char *text) {
    gm_model_config a, b;
    gm_error err = {.offset = -1};
    if (gm_model_config_preset(&a, "gpt2-nano", &err) != GM_OK || gm_model_config_override(&a, text, &err) != GM_OK) {
        FUZZ_CHECK(err.msg[0]);
        return;
    }
    FUZZ_CHECK(gm_model_config_preset(&b, "gpt2-nano", &err) == GM_OK && gm_model_config_override(&b, text, &err) == GM_OK);
    FUZZ_CHECK(memcmp(&a, &b, sizeof a) == 0);
    FUZZ_CHECK(gm_model_config_check(&a, &err) == GM_OK || err.msg[0]);
}

bool fuzz_input(const uint8_t *data, size_t size) {
    char text[2048], *lines[ARGUMENTS_MAX + 1], *argv[ARGUMENTS_MAX];
    int count = 0;
    size = GM_MIN(size, sizeof text - 1);
    for (size_t i = 0; i < size; i++)
        text[i] = data[i] == '\n' ? 0 : (char)data[i];
    text[size] = 0;
    for (char *line = text; line <= text + size && count < GM_COUNT(lines); line += strlen(line) + 1) {
        if (strcmp(line, "-h") == 0 || strcmp(line, "--help") == 0) /* these print */
            return false;
        lines[count++] = line;
        check_dimensions(line);
    }
    const cli_command *command = cli_command_named(lines[0]);
    if (!command)
        return false;
    const int argc = count - 1;
    memcpy(argv, lines + 1, (size_t)argc * sizeof *argv);
    char *args = parsed(command, argv, argc);
    if (!args)
        return false;
    for (int i = 0; i + 1 < argc; i++) {
        if (strcmp(lines[i + 1], "--") == 0)
            break;
        if (strncmp(lines[i + 1], "--", 2) == 0 && !strchr(lines[i + 1], '=') && strncmp(lines[i + 2], "--", 2) != 0)
            check_joined(command, args, argv, lines + 1, argc, i);
    }
    free(args);
    return true;
}
