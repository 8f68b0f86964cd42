/* json.c -- JSON texts that are whole or not at all. jansson leaves out a value that it got no memory for, and tells only whoever asks at
 * every insertion; so its allocations are watched, and a text made after one failed is not given out. */
#include "base.h"

#include <jansson.h>
#include <stdlib.h>

static _Thread_local bool starved;
static json_malloc_t get = malloc;

static void *watched(size_t n) {
    void *p = get(n);
    starved |= !p;
    return p;
}

/* Around whatever functions there are; those that the program sets later are not watched. */
__attribute__((constructor)) static void watch(void) {
    json_free_t give = free;
    json_get_alloc_funcs(&get, &give);
    json_set_alloc_funcs(watched, give);
}

bool gm_json_starved(void) {
    return starved;
}

void gm_json_forget(void) {
    starved = false;
}

json_t *gm_json_from_text(gm_text *t) {
    starved |= t->failed;
    json_t *string = json_string(t->data ? t->data : "");
    gm_text_free(t);
    return string;
}

char *gm_json_dump(const json_t *root, size_t flags) {
    char *text = root && !starved ? json_dumps(root, flags) : NULL;
    if (starved) { /* while it was written */
        free(text);
        text = NULL;
    }
    return text;
}
