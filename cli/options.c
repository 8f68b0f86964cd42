/* options.c -- parsing a command line by its table, and printing the table as help. */
#include "options.h"

#include "cli.h"
#include "ghostmax_model.h"
#include "manual.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 128 /* per command; a table that outgrows it fails in every call, so it cannot go unseen */

const cli_option cli_machine_options[] = {
    {"threads", "N", "worker threads", CLI_COUNT, offsetof(cli_common, threads), 1, 1024,
     "$OMP_NUM_THREADS, else all cores; of several ranks each its share"},
    {"isa", "ISA", "kernels to use: ref, avx2, avx512, avx512vnni, avx512amx, neon, neondot; only lowers what the processor has", CLI_TEXT,
     offsetof(cli_common, isa), 0, 0, "$GHOSTMAX_ISA, else the best"},
    {0}};
const cli_option cli_quiet_options[] = {{"quiet", NULL, "no progress on stderr", CLI_FLAG, offsetof(cli_common, quiet), 0, 0, NULL}, {0}};
const cli_option cli_json_options[] = {{"json", NULL, "the result as JSON on stdout", CLI_FLAG, offsetof(cli_common, json), 0, 0, NULL},
                                       {0}};

/* One option with the address of what it sets. */
typedef struct bound_option {
    cli_option option;
    const char *title;
    char *field;
    int override; /* CLI_OVERRIDE: index into gm_override_list */
} bound_option;

static cli_option option_of_override(const gm_override_info *info) {
    return (cli_option){info->name, info->values, info->summary, CLI_OVERRIDE, 0, 0, 0, "from the preset"};
}

static int bind_options(bound_option *bound, const cli_command *command, void *args) {
    int count = 0;
    for (const cli_group *group = command->groups; group->title; group++) {
        char *base = (char *)args + group->base;
        for (int i = 0; count < OPTIONS_MAX; i++) {
            if (group->options) {
                if (!group->options[i].name)
                    break;
                bound[count++] = (bound_option){group->options[i], group->title, base + group->options[i].offset, -1};
                continue;
            }
            const gm_override_info *info = gm_override_list(i);
            if (!info)
                break;
            if (!(info->from_data && group->with_data))
                bound[count++] = (bound_option){option_of_override(info), group->title, base, i};
        }
    }
    return count;
}

/* ---- parsing ----------------------------------------------------------------------------------------------------------- */

static gm_status set_count(const bound_option *b, const char *what, const char *text, gm_error *err) {
    int64_t number;
    gm_status status = gm_text_int(&number, text, (int64_t)b->option.min, (int64_t)b->option.max, what, err);
    if (status != GM_OK)
        return status;
    if (b->option.type == CLI_SMALL)
        *(int *)b->field = (int)number;
    else if (b->option.type == CLI_SEED)
        *(uint64_t *)b->field = (uint64_t)number;
    else
        *(int64_t *)b->field = number;
    return GM_OK;
}

static gm_status set_override(const bound_option *b, const char *text, gm_error *err) {
    cli_overrides *overrides = (cli_overrides *)b->field;
    gm_model_config probe = {0};
    char item[256];
    if ((size_t)snprintf(item, sizeof item, "%s=%s", b->option.name, text) >= sizeof item || strchr(text, ',')) {
        err->code = GM_EINVAL;
        snprintf(err->msg, sizeof err->msg, "--%s: '%.40s' is not one value", b->option.name, text);
        return GM_EINVAL;
    }
    gm_error inner = {0};
    if (gm_model_config_override(&probe, item, &inner) == GM_OK) { /* the library's own ranges */
        overrides->value[b->override] = text;
        return GM_OK;
    }
    *err = inner;
    snprintf(err->msg, sizeof err->msg, "--%.500s", inner.msg); /* the dimensions are named as the options */
    return err->code;
}

static gm_status set_option(const bound_option *b, const char *text, gm_error *err) {
    char what[80];
    snprintf(what, sizeof what, "--%s", b->option.name);
    switch (b->option.type) {
    case CLI_FLAG:
        *(bool *)b->field = true;
        return GM_OK;
    case CLI_UNFLAG:
        *(bool *)b->field = false;
        return GM_OK;
    case CLI_COUNT:
    case CLI_SMALL:
    case CLI_SEED:
        return set_count(b, what, text, err);
    case CLI_REAL:
        return gm_text_double((double *)b->field, text, b->option.min, b->option.max, what, err);
    case CLI_TEXT:
        *(const char **)b->field = text;
        return GM_OK;
    case CLI_TEXTS: {
        cli_texts *texts = (cli_texts *)b->field;
        if (texts->count < CLI_TEXTS_MAX) {
            texts->text[texts->count++] = text;
            return GM_OK;
        }
        err->code = GM_EINVAL;
        snprintf(err->msg, sizeof err->msg, "%s: at most %d times", what, CLI_TEXTS_MAX);
        return GM_EINVAL;
    }
    case CLI_CHOICE: {
        int choice = gm_text_choice(b->option.value, text);
        if (choice >= 0) {
            *(int *)b->field = choice;
            return GM_OK;
        }
        err->code = GM_EINVAL;
        snprintf(err->msg, sizeof err->msg, "%s: '%.60s' is none of %s", what, text, b->option.value);
        return GM_EINVAL;
    }
    case CLI_OVERRIDE:
        return set_override(b, text, err);
    }
    return GM_EINVAL;
}

/* Joins the given dimensions in the table's order, so that the order on the line does not matter. */
static void join_overrides(const cli_command *command, void *args) {
    for (const cli_group *group = command->groups; group->title; group++) {
        if (group->options)
            continue;
        cli_overrides *overrides = (cli_overrides *)((char *)args + group->base);
        size_t used = 0;
        for (int i = 0; i < CLI_OVERRIDES_MAX; i++) {
            if (overrides->value[i] && used < sizeof overrides->text)
                used += (size_t)snprintf(overrides->text + used, sizeof overrides->text - used, "%s%s=%s", used ? "," : "",
                                         gm_override_list(i)->name, overrides->value[i]);
        }
    }
}

static int fail_unknown(const cli_command *command, const bound_option *bound, int count, const char *name, const char *argument) {
    const char *names[OPTIONS_MAX + 2] = {0};
    for (int i = 0; i < count; i++)
        names[i] = bound[i].option.name;
    names[count] = "help";
    const char *nearest = gm_text_nearest(name, names);
    if (command->operands_max > 0 && (strchr("0123456789.", argument[1]) || strcmp(argument, "-inf") == 0))
        cli_error(command->name, "'%s' looks like a negative number; put those after `--`", argument);
    else if (nearest)
        cli_error(command->name, "unknown option '%s'; did you mean '--%s'?", argument, nearest);
    else
        cli_error(command->name, "unknown option '%s'; `ghostmax %s --help` lists them", argument, command->name);
    return CLI_USAGE;
}

static const bound_option *option_named(const bound_option *bound, int count, const char *name, size_t n) {
    for (int i = 0; i < count; i++) {
        if (strlen(bound[i].option.name) == n && memcmp(bound[i].option.name, name, n) == 0)
            return &bound[i];
    }
    return NULL;
}

bool cli_parse(const cli_command *command, void *args, int argc, char **argv, int *code) {
    bound_option bound[OPTIONS_MAX];
    cli_common *common = args;
    command->defaults(args);
    int count = bind_options(bound, command, args);
    bool operands_only = false;
    common->operands = argv; /* operands are moved to the front: never more of them than arguments read */
    *code = CLI_USAGE;
    for (int i = 0; i < argc; i++) {
        char *argument = argv[i];
        if (operands_only || argument[0] != '-' || !argument[1]) {
            common->operands[common->operand_count++] = argument;
            continue;
        }
        if (strcmp(argument, "--") == 0) {
            operands_only = true;
            continue;
        }
        if (strcmp(argument, "-h") == 0 || strcmp(argument, "--help") == 0) {
            command->defaults(args);
            cli_manual_command(&(cli_page){.out = stdout}, command);
            *code = CLI_DONE;
            return false;
        }
        const char *name = argument + (argument[1] == '-' ? 2 : 1);
        size_t n = strcspn(name, "=");
        const bound_option *b = argument[1] == '-' ? option_named(bound, count, name, n) : NULL;
        if (!b) {
            char word[64];
            snprintf(word, sizeof word, "%.*s", (int)(n < 63 ? n : 63), name);
            *code = fail_unknown(command, bound, count, word, argument);
            return false;
        }
        const char *text = name[n] ? name + n + 1 : NULL;
        bool flag = b->option.type == CLI_FLAG || b->option.type == CLI_UNFLAG;
        if (flag && text) {
            cli_error(command->name, "--%s takes no value", b->option.name);
            return false;
        }
        if (!flag && !text && i + 1 < argc && strncmp(argv[i + 1], "--", 2) != 0)
            text = argv[++i];
        if (!flag && (!text || !*text)) {
            cli_error(command->name, "--%s needs a value (%s)", b->option.name, b->option.value);
            return false;
        }
        gm_error err = {0};
        if (set_option(b, text, &err) != GM_OK) {
            cli_error(command->name, "%s", err.msg);
            return false;
        }
    }
    if (common->operand_count < command->operands_min) {
        cli_error(command->name, "%s is missing; usage: ghostmax %s [options] %s", command->operands, command->name, command->operands);
        return false;
    }
    if (common->operand_count > command->operands_max) {
        cli_error(command->name, "'%s' is too much%s%s; `ghostmax %s --help` shows what it takes", common->operands[command->operands_max],
                  command->operands_max ? " after " : ": it takes options only", command->operands, command->name);
        return false;
    }
    join_overrides(command, args);
    *code = CLI_DONE;
    return true;
}

/* ---- rows for help and manuals
 * ---------------------------------------------------------------------------------------------------------------- */

/* The default as text; "" when there is none to show. */
static void default_text(char *dst, size_t size, const bound_option *b) {
    const cli_option *o = &b->option;
    const char *otherwise = o->otherwise ? o->otherwise : "";
    *dst = 0;
    double number = 0;
    switch (o->type) {
    case CLI_FLAG:
    case CLI_UNFLAG:
        return;
    case CLI_COUNT:
        number = (double)*(int64_t *)b->field;
        break;
    case CLI_SMALL:
        number = *(int *)b->field;
        break;
    case CLI_SEED:
        number = (double)*(uint64_t *)b->field;
        break;
    case CLI_REAL:
        number = *(double *)b->field;
        break;
    case CLI_TEXT: {
        const char *text = *(const char **)b->field;
        snprintf(dst, size, "%s", text ? text : otherwise);
        return;
    }
    case CLI_CHOICE: {
        const char *values = o->value;
        if (*(int *)b->field < 0)
            values = otherwise;
        for (int i = *(int *)b->field; i > 0; i--)
            values += strcspn(values, "|") + 1;
        snprintf(dst, size, "%.*s", (int)strcspn(values, "|"), values);
        return;
    }
    case CLI_TEXTS:
        snprintf(dst, size, "%s", otherwise);
        return;
    case CLI_OVERRIDE:
        return;
    }
    if (number >= o->min && number <= o->max)
        snprintf(dst, size, "%.12g", number);
    else
        snprintf(dst, size, "%s", otherwise);
}

cli_row *cli_rows(const cli_command *command) {
    char *args = calloc(1, command->size);
    cli_row *rows = calloc(OPTIONS_MAX + 1, sizeof *rows);
    bound_option bound[OPTIONS_MAX];
    if (args && rows) {
        command->defaults(args);
        int count = bind_options(bound, command, args);
        for (int i = 0; i < count; i++) {
            rows[i].option = bound[i].option;
            rows[i].title = bound[i].title;
            default_text(rows[i].fallback, sizeof rows[i].fallback, &bound[i]);
        }
    } else {
        free(rows);
        rows = NULL;
    }
    free(args);
    return rows;
}

void cli_row_head(char *dst, size_t size, const cli_row *row) {
    const char *value = row->option.value;
    snprintf(dst, size, "--%s%s%s", row->option.name, value ? " " : "", value ? value : "");
}

void cli_row_text(char *dst, size_t size, const cli_row *row) {
    const char *fallback = row->fallback;
    snprintf(dst, size, "%s%s%s%s", row->option.help, *fallback ? " [" : "", fallback, *fallback ? "]" : "");
}
