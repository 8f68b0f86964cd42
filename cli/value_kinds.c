/* value_kinds.c -- the table of kinds, and what a value offers. */
#include "value_kinds.h"

#include "cli.h"

#include <ctype.h>
#include <string.h>

#define NAMES(kind, info_type, list)            \
    static const char *kind##_name(int index) { \
        const info_type *info = list(index);    \
        return info ? info->name : NULL;        \
    }
NAMES(preset, gm_preset_info, gm_preset_list)
NAMES(variant, gm_variant_info, gm_variant_list)
NAMES(setting, gm_quant_preset_info, gm_quant_preset_list)
NAMES(command, cli_command, cli_command_list)

/* "FILE", the last source, stands for files. */
static const char *source_name(int index) {
    const gm_data_defaults *source = gm_data_default_list(index);
    return source && islower((unsigned char)*source->source) ? source->source : NULL;
}

static const char *isa_name(int index) {
    return gm_isa_list(index, NULL);
}

static const cli_kind kinds[] = {
    {"N", "a whole number", CLI_NO_PATHS, NULL},
    {"PORT", "a port of this machine, 0 to 65535", CLI_NO_PATHS, NULL},
    {"X", "a number", CLI_NO_PATHS, NULL},
    {"TEXT", "any text", CLI_NO_PATHS, NULL},
    {"SIZE", "bytes: 5GB, 500MB, 64KB or a number", CLI_NO_PATHS, NULL},
    {"SCORE", "a number, -inf or nan", CLI_NO_PATHS, NULL},
    {"FILE", "a file", CLI_FILES, NULL},
    {"DIR", "a folder", CLI_FOLDERS, NULL},
    {"PATH", "a file or folder", CLI_FILES, NULL},
    {"MODEL", "a model: a folder or file of any format that `ghostmax info` knows", CLI_FILES, NULL},
    {"LAB", "a lab's folder", CLI_FOLDERS, NULL},
    {"SOURCE", "a data source that is built in, or a file", CLI_FILES, source_name},
    {"PRESET", "a preset of a model's shape (`ghostmax info --presets`)", CLI_NO_PATHS, preset_name},
    {"VARIANT", "an attention variant, name[:key=value,...][+name...] (`ghostmax info --variants`)", CLI_NO_PATHS, variant_name},
    {"SETTING", "a published quantizer setting (`ghostmax quantize --help` lists them)", CLI_NO_PATHS, setting_name},
    {"BITS", "a precision, such as w6a6: bits of weights and of activations", CLI_NO_PATHS, NULL},
    {"ISA", "a kernel table of this processor family", CLI_NO_PATHS, isa_name},
    {"COMMAND", "a command of ghostmax", CLI_NO_PATHS, command_name},
};

const cli_kind *cli_kind_list(int index) {
    return index >= 0 && index < (int)(sizeof kinds / sizeof *kinds) ? &kinds[index] : NULL;
}

static void add_name(cli_choices *c, const char *name, size_t n) {
    if (c->count < (int)(sizeof c->names / sizeof *c->names))
        snprintf(c->names[c->count++], sizeof *c->names, "%.*s", (int)n, name);
}

/* "clipped:alpha=" and so on. */
static void add_keys(cli_choices *c, const gm_variant_info *variant) {
    for (const char *key = variant->keys; *key; key += strcspn(key, ",") + (key[strcspn(key, ",")] == ',')) {
        char text[48];
        int n = snprintf(text, sizeof text, "%s:%.*s=", variant->name, (int)strcspn(key, "=,"), key);
        add_name(c, text, (size_t)n);
    }
}

static void add_kind(cli_choices *c, const char *word, size_t n) {
    for (int i = 0; i < (int)(sizeof kinds / sizeof *kinds); i++) {
        if (strlen(kinds[i].word) != n || memcmp(kinds[i].word, word, n) != 0)
            continue;
        c->paths = kinds[i].paths > c->paths ? kinds[i].paths : c->paths;
        const char *name;
        for (int k = 0; kinds[i].name && (name = kinds[i].name(k)); k++) {
            add_name(c, name, strlen(name));
            if (kinds[i].name == variant_name)
                add_keys(c, gm_variant_list(k));
        }
        return;
    }
}

void cli_choices_of(cli_choices *c, const char *value) {
    *c = (cli_choices){.list = strstr(value, ",...") != NULL};
    for (const char *p = value + strspn(value, "-[ "); *p; p += strspn(p, "|")) {
        size_t n = strcspn(p, "|],. ");
        if (isupper((unsigned char)*p))
            add_kind(c, p, n);
        else
            add_name(c, p, n);
        p += n;
        p += strspn(p, "],. ");
    }
}
