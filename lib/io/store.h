/* store.h -- JSON files that know when they were altered. */
#ifndef GM_STORE_H
#define GM_STORE_H

#include "base.h"

#include <jansson.h>

/* Writes root (an object) with a "checksum" added, atomically. */
gm_status gm_store_write(json_t *root, const char *path, gm_error *err);
/* Reads and verifies it. *root is NULL when there is no such file. Errors: GM_EFORMAT with the offset, telling `advice`. */
gm_status gm_store_read(json_t **root, const char *path, const char *advice, gm_error *err);

#endif
