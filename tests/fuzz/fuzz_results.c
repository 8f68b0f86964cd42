/* fuzz_results.c -- a lab's results.json: as the bytes are, and once more with the checksum that belongs to them, so that what stands
 * behind it is reached. What is accepted is the same after it was written and read again; a report is made of it or refused. */
#include "fuzz_folder.h"
#include "ghostmax_model.h"
#include "store.h"

static const char advice[] = "make it again";

static void check_report(void) {
    const char *const folder = fuzz_root;
    gm_error err = {.offset = -1};
    gm_status status = gm_report_write(&folder, 1, fuzz_path("report.html"), &err);
    if (status != GM_OK)
        fuzz_refusal(status, &err, SIZE_MAX / 2);
}

bool fuzz_input(const uint8_t *data, size_t size) {
    gm_error err = {.offset = -1};
    json_t *root = NULL, *back;
    fuzz_folder_begin();
    fuzz_file(fuzz_path("results.json"), data, size);
    gm_status status = gm_store_read(&root, fuzz_path("results.json"), advice, &err);
    const bool good = status == GM_OK;
    if (!good) {
        fuzz_refusal(status, &err, size);
        root = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    }
    if (json_is_object(root)) {
        FUZZ_CHECK(gm_store_write(root, fuzz_path("results.json"), &err) == GM_OK);
        FUZZ_CHECK(gm_store_read(&back, fuzz_path("results.json"), advice, &err) == GM_OK && json_equal(root, back));
        json_decref(back);
        check_report();
    }
    json_decref(root);
    return good;
}
