/* cli.h -- what the commands share: the list of them, messages, progress, files. */
#ifndef GM_CLI_H
#define GM_CLI_H

#include "ghostmax_model.h"
#include "options.h"

#include <jansson.h>
#include <stdarg.h>

/* The one list of commands, in the order of `ghostmax --help`. Each lives in cmd_<name>.c. */
#define CLI_COMMANDS(COMMAND) \
    COMMAND(lab)              \
    COMMAND(explain)          \
    COMMAND(train)            \
    COMMAND(eval)             \
    COMMAND(measure)          \
    COMMAND(quantize)         \
    COMMAND(generate)         \
    COMMAND(convert)          \
    COMMAND(report)           \
    COMMAND(bench)            \
    COMMAND(info)             \
    COMMAND(tokenize)         \
    COMMAND(selftest)         \
    COMMAND(help)
#define CLI_DECLARE(name) extern const cli_command cli_command_##name;
CLI_COMMANDS(CLI_DECLARE)
#undef CLI_DECLARE
const cli_command *cli_command_list(int index); /* NULL past the end */
const cli_command *cli_command_named(const char *name);
/* `unknown command ...` with the nearest name, exit code 2. */
int cli_fail_command(const char *name);

/* `ghostmax <command>: <message>` as one line on stderr (a progress line in the way is ended first). */
void cli_error(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a library error; returns the exit code that belongs to its status. */
int cli_fail(const cli_command *command, const gm_error *err);
void cli_note(const char *format, ...) __attribute__((format(printf, 1, 2))); /* a line on stderr */
/* The line itself: control characters, which a name or a file's content may bring in and a terminal obeys, become spaces. */
void cli_say(const char *format, va_list args) __attribute__((format(printf, 1, 0)));

gm_status cli_context(gm_ctx **ctx, const cli_common *common, gm_error *err);
void cli_command_line(char *dst, size_t size); /* this process's, quoted for a shell */
/* Facts of the build, for --version and info. */
json_t *cli_build_json(void);
void cli_print_build(bool json);
json_t *cli_json_number(double x); /* null where it is not finite */
/* A result on stdout, indented, with a newline. Frees it. */
void cli_print_json(json_t *root);

/* A file's bytes, or those of standard input for "-", some more than `most` at the most (/dev/zero has no end); *text is freed with free(),
 * on failure too. */
gm_status cli_read_text(const char *path, size_t most, char **text, size_t *size, gm_error *err);

/* Progress on stderr: one line that is rewritten on a terminal; elsewhere plain lines, one per 2% or 10 seconds. */
typedef struct cli_progress {
    bool quiet;
    double last_s, last_share; /* when, and at which share of the work, a line was last printed */
} cli_progress;
bool cli_progress_due(cli_progress *p, double share); /* is it time to show something? Then it counts as shown */
void cli_progress_show(cli_progress *p, double share, const char *format, ...) __attribute__((format(printf, 3, 4)));
void cli_progress_end(void); /* leaves the last line standing */
void cli_format_seconds(char *dst, size_t size, double seconds);
void cli_format_count(char *dst, size_t size, double count); /* 12.3k, 4.56M */

/* ---- the terminal (terminal.c) */

/* One that can move its cursor: no file, no pipe, not TERM=dumb. */
bool cli_terminal(int fd);
void cli_terminal_size(int fd, int *columns, int *rows); /* 80 x 24 where nobody knows */
bool cli_terminal_colors(int fd);                        /* such a terminal, and NO_COLOR is not set */
bool cli_terminal_unicode(void);                         /* the locale's characters are UTF-8 */
int cli_text_width(const char *text);                    /* columns of UTF-8, colours not counted */

/* Lines on stderr, drawn over those that stand there; what is wider than the terminal is cut. Colours may stand in them. */
enum { CLI_BLOCK_LINES = 8 };
void cli_block_draw(const char *const *lines, int count);
void cli_block_clear(void); /* nothing stands there any more */
void cli_block_leave(void); /* they stay, and the cursor goes below them */

/* One training run after the other as such a block, with a bar, the loss so far, and what was measured last; elsewhere as plain lines. */
typedef struct cli_training {
    cli_progress progress;
    double loss[128]; /* means of `each` steps; halved when it is full */
    int count;
    int64_t each, in_last;
    double val_loss, share, seconds_left; /* the last validation's; of the run; of all */
    gm_train_progress last;
} cli_training;
void cli_training_begin(cli_training *t); /* another run */
/* title: which run of several; NULL: there is only one. train NULL: the run is in `phase`, behind its training. total: share of all work;
 * left: seconds until all of it is done. */
void cli_training_show(cli_training *t, const char *title, const gm_train_progress *train, const char *phase, double total, double left);

/* The report of the folder that a command fills, served while it does (cli_live_options: an int64_t port, below 0: not served). Says where
 * on stderr. */
extern const cli_option cli_live_options[];
gm_status cli_live_start(gm_live **live, int64_t port, const char *folder, bool quiet, gm_error *err);

/* Ctrl-C, SIGTERM, SIGUSR1 and a terminal that closes: the first asks the running command to finish its step and save, the second ends the
 * process. Called before anything starts threads: they must not take the signals (progress.c says why). Once is enough. */
void cli_catch_stop(void);
bool cli_stop_asked(void);
/* First of all in main: what becomes of SIGHUP is what the program's parent chose. */
void cli_restore_hangup(void);

/* Several processes that a launcher started (ranks.c). Rank 0 speaks: the others' stdout leads nowhere, and what they tell people is
 * dropped, so every failure must be agreed on (gm_dist_agree) before it is told. */
gm_dist *cli_ranks(void); /* NULL: alone */
bool cli_speaks(void);
void cli_ranks_silence(void);
int cli_ranks_begin(const char *command);       /* all join, also those who will be refused. CLI_DONE to go on */
bool cli_ranks_may(const cli_command *command); /* else it has said why not (CLI_USAGE) */
void cli_ranks_stand_in(void);                  /* this one speaks from now on: rank 0 was lost */
int cli_ranks_end(int code);                    /* the exit code; last of all */

/* Option groups of gm_data_options and gm_train_options, for lab and train. */
extern const cli_option cli_data_options[], cli_train_options[];
/* gm_train_defaults, with everything that the data source decides left open (0). */
void cli_train_defaults(gm_train_options *train);
/* Fills what was left open from the data source's row, and the context from it and the presets (a comma list, NULL: the source's). */
gm_status cli_train_fill(gm_train_options *train, gm_data_options *data, const char *presets, gm_error *err);
/* Quantizer options, for quantize and lab: a preset, and what replaces its parts (numbers below 0: not given). */
typedef struct cli_quant {
    const char *preset;
    int weight_bits, activation_bits, attention_bits, kv_bits, embedding_bits, head_bits;
    int weight_grain, activation_grain, kv_grain, weight_range, activation_range, weight_zero, activation_zero, where, smooth;
    int64_t group, calibration_batches, calibration_batch;
    double percentile, margin, smooth_alpha, outlier_threshold;
    bool quantize_head, dynamic;
} cli_quant;
extern const cli_option cli_quant_options[];
void cli_quant_defaults(cli_quant *quant);
gm_status cli_quant_fill(gm_quant_options *options, const cli_quant *quant, gm_error *err);
/* The sources, their defaults, the variants, presets and quantizer settings, as help. */
void cli_help_sources(cli_page *page);
void cli_help_variants(cli_page *page);
void cli_help_presets(cli_page *page);
void cli_help_quant_presets(cli_page *page);

/* gm_model_load, with a warning on stderr for every tensor that holds NaN or infinities. */
gm_status cli_load_model(gm_model **out, const gm_ctx *ctx, const char *path, gm_error *err);

/* A model from the folder named by the first operand, and (data not NULL) data through the tokenizer beside it. Returns an exit code;
 * when that is CLI_DONE, cli_unload frees. data->context 0 becomes the model's. */
typedef struct cli_loaded {
    gm_ctx *ctx;
    gm_model *model;
    gm_quantized *quantized; /* cli_load_any: where the folder holds one; model is its */
    gm_data *data;
    char tokenizer_path[1024];
} cli_loaded;
int cli_load(cli_loaded *loaded, const cli_command *command, const cli_common *common, gm_data_options *data);
/* The same where a quantized model is welcome too: simulated, or, executed_only, on its integers alone (where they can be executed; else
 * simulated, with a note). */
int cli_load_any(cli_loaded *loaded, const cli_command *command, const cli_common *common, gm_data_options *data, bool executed_only);
void cli_unload(cli_loaded *loaded);
/* GM_EINVAL where the tokenizer (NULL: the data are ids) has tokens that the model has not. */
gm_status cli_check_tokenizer(const gm_model *model, const gm_tokenizer *tokenizer, gm_error *err);
/* The tokenizer in the model's folder, NULL when there is none. Valid as long as *loaded. */
const char *cli_tokenizer_beside(cli_loaded *loaded, const char *model);

#endif
