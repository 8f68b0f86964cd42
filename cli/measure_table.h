/* measure_table.h -- gm_measure_model's JSON as tables on stdout. */
#ifndef GM_CLI_MEASURE_TABLE_H
#define GM_CLI_MEASURE_TABLE_H

#include "cli.h"

/* model and data: what the user called them. */
void cli_print_measurement(const json_t *root, const char *model, const char *data);

#endif
