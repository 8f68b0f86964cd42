/* test_event_file.c -- TensorBoard's event files: what is written is read again, damage is named, a resumed run has each step once. That
 * the real TensorBoard reads them is tests/interop/tensorboard_reader.py. */
#include "event_file.h"
#include "png_image.h"

#include "model/model_cases.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/ghostmax-events-XXXXXX";

static int begin(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

/* Names in folder, sorted; the caller's. */
static int names_of(char names[16][256]) {
    struct dirent **entries;
    int n = 0, found = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < found; i++) {
        if (entries[i]->d_name[0] != '.' && n < 16)
            snprintf(names[n++], 256, "%s", entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return n;
}

static int clear(void **state) {
    (void)state;
    char names[16][256];
    for (int n = names_of(names); n > 0; n--) {
        char path[8192];
        snprintf(path, sizeof path, "%s/%s", folder, names[n - 1]);
        unlink(path);
    }
    return 0;
}

static int end(void **state) {
    clear(state);
    return rmdir(folder);
}

static gm_event_value scalar(const char *tag, double x) {
    return (gm_event_value){.kind = GM_EVENT_SCALAR, .tag = tag, .scalar = (float)x};
}

/* Every scalar of every file in the order of names, as "step:value " text. */
static void curve(char *dst, size_t size, const char *tag) {
    char names[16][256];
    int files = names_of(names);
    size_t used = 0;
    *dst = 0;
    for (int i = 0; i < files; i++) {
        char path[8192];
        gm_file file;
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (!strstr(path, ".ghostmax"))
            continue;
        CHECK_OK(gm_file_open(&file, path, err));
        gm_event_reader r = {.data = file.data, .size = file.size, .name = path};
        for (bool more = true; more;) {
            gm_event event;
            CHECK_OK(gm_event_next(&r, &event, &more, err));
            for (int k = 0; k < event.count; k++) {
                if (strcmp(event.values[k].tag, tag) == 0)
                    used += (size_t)snprintf(dst + used, size - used, "%lld:%g ", (long long)event.step, event.values[k].scalar);
            }
            if (event.session_start)
                used += (size_t)snprintf(dst + used, size - used, "start@%lld ", (long long)event.step);
            gm_event_free(&event);
        }
        assert_int_equal(r.at, r.size);
        gm_file_close(&file);
    }
}

/* The bytes that TensorFlow's own writer makes of Event(wall_time=1.5, file_version="brain.Event:2"), by tensorboard 2.21. */
static void first_record_is_tensorflows(void **state) {
    (void)state;
    static const uint8_t theirs[] = {0x18, 0,   0,   0,   0,   0,    0,    0,    0xa3, 0x7f, 0x4b, 0x22, 0x09, 0,
                                     0,    0,   0,   0,   0,   0xf8, 0x3f, 0x1a, 0x0d, 'b',  'r',  'a',  'i',  'n',
                                     '.',  'E', 'v', 'e', 'n', 't',  ':',  '2',  0x2a, 0x28, 0x64, 0x6c};
    uint8_t *bytes;
    size_t size;
    CHECK_OK(gm_event_pack(&bytes, &size, &(gm_event){.wall_time = 1.5, .file_version = "brain.Event:2"}, err));
    assert_int_equal(size, sizeof theirs);
    assert_memory_equal(bytes, theirs, sizeof theirs);
    free(bytes);
}

static void values_are_read_again(void **state) {
    (void)state;
    gm_event_file f;
    gm_histogram h;
    double limits[GM_HISTOGRAM_BINS], counts[GM_HISTOGRAM_BINS];
    const float x[] = {-3, -3, 0, 1, 1.0625f, 100, NAN, INFINITY};
    static const uint8_t shades[] = {0, 85, 170, 255};
    uint8_t *png;
    size_t png_size;
    gm_histogram_clear(&h);
    gm_histogram_add(&h, x, GM_COUNT(x));
    CHECK_OK(gm_png_encode(&png, &png_size, shades, 2, 2, err));
    assert_memory_equal(png, "\x89PNG\r\n", 6);
    const gm_event_value written[] = {scalar("train/loss", 2.5),
                                      scalar("train/nan", NAN),
                                      gm_event_of_histogram("weights/w", &h, limits, counts),
                                      {.kind = GM_EVENT_IMAGE, .tag = "picture", .width = 2, .height = 2, .bytes = png, .size = png_size}};
    CHECK_OK(gm_event_file_open(&f, folder, -1, err));
    CHECK_OK(gm_event_file_add(&f, 7, written, GM_COUNT(written), err));
    CHECK_OK(gm_event_file_add_text(&f, "table", "| a |\n|---|\n", err));
    gm_event_file_close(&f);
    gm_event_file_close(&f);

    gm_file file;
    CHECK_OK(gm_file_open(&file, f.path, err));
    gm_event_reader r = {.data = file.data, .size = file.size, .name = f.path};
    gm_event event;
    bool more;
    CHECK_OK(gm_event_next(&r, &event, &more, err));
    assert_true(more);
    assert_string_equal(event.file_version, "brain.Event:2");
    gm_event_free(&event);
    CHECK_OK(gm_event_next(&r, &event, &more, err));
    assert_true(more && event.step == 7 && event.count == 4 && event.wall_time > 1.5e9);
    assert_true(event.values[0].kind == GM_EVENT_SCALAR && event.values[0].scalar == 2.5f);
    assert_string_equal(event.values[0].tag, "train/loss");
    assert_true(isnan(event.values[1].scalar));
    const gm_event_value *v = &event.values[2];
    assert_int_equal(v->kind, GM_EVENT_HISTOGRAM);
    assert_true(v->num == 6 && v->min == -3 && v->max == 100 && v->sum == -3 - 3 + 0 + 1 + 1.0625 + 100);
    /* -3 and 1, 1.0625 share a bin each; before each of -3 | 0 | 1 | 100 but the first lies a hole, or the bin's own lower edge */
    double total = 0;
    for (int i = 0; i < v->buckets; i++) {
        assert_true(i == 0 || v->limits[i] > v->limits[i - 1]);
        total += v->counts[i];
    }
    assert_true(total == 6 && v->buckets == 7);
    assert_true(v->counts[0] == 2 && v->limits[0] >= -3 && v->limits[0] <= -2.7);
    assert_true(v->counts[6] == 1 && v->limits[6] >= 100 && v->limits[6] <= 112 && v->limits[5] <= 100 && v->limits[5] >= 89);
    assert_true(event.values[3].kind == GM_EVENT_IMAGE && event.values[3].width == 2 && event.values[3].size == png_size);
    assert_memory_equal(event.values[3].bytes, png, png_size);
    gm_event_free(&event);
    CHECK_OK(gm_event_next(&r, &event, &more, err));
    assert_true(more && event.count == 1 && event.values[0].kind == GM_EVENT_TEXT && event.values[0].size == 12);
    gm_event_free(&event);
    CHECK_OK(gm_event_next(&r, &event, &more, err));
    assert_true(!more && r.at == r.size);
    gm_event_free(&event);
    gm_file_close(&file);
    free(png);
}

/* Every finite float's bin holds it: the edges around it are those of its bucket. */
static void histograms_hold_their_values(void **state) {
    (void)state;
    static const float values[] = {0,    -0.0f,   1,        -1,      0x1p-149f, -0x1p-149f, 0x1p-126f, 0x1.fffffep127f, -0x1.fffffep127f,
                                   1.5f, 0.0001f, -31337.f, 3.14159f};
    gm_histogram h;
    double limits[GM_HISTOGRAM_BINS], counts[GM_HISTOGRAM_BINS];
    for (int i = 0; i < GM_COUNT(values); i++) {
        gm_histogram_clear(&h);
        gm_histogram_add(&h, &values[i], 1);
        int n = gm_histogram_buckets(&h, limits, counts);
        assert_true(n == 1 && counts[0] == 1 && limits[0] >= values[i] && h.min == values[i] && h.max == values[i]);
        assert_true(fabs(limits[0]) <= 1.126 * fabs((double)values[i]) + 0x1p-129);
    }
    gm_histogram_clear(&h);
    gm_histogram_add(&h, (const float[]){NAN, -INFINITY}, 2);
    assert_true(gm_histogram_buckets(&h, limits, counts) == 0 && h.nonfinite == 2);
    gm_event_value empty = gm_event_of_histogram("none", &h, limits, counts);
    assert_true(empty.num == 0 && empty.min == 0 && empty.max == 0);
}

static void write_curve(gm_event_file *f, int first, int last, double scale) {
    for (int step = first; step <= last; step++) {
        gm_event_value v = scalar("loss", step * scale);
        CHECK_OK(gm_event_file_add(f, step, &v, 1, err));
    }
}

static void resuming_shows_each_step_once(void **state) {
    (void)state;
    char shown[512], names[16][256], path[8192];
    gm_event_file f;
    CHECK_OK(gm_event_file_open(&f, folder, -1, err));
    write_curve(&f, 1, 6, 1);
    gm_event_file_close(&f);
    CHECK_OK(gm_event_file_open(&f, folder, 4, err)); /* killed at 6, saved at 4 */
    write_curve(&f, 5, 8, 10);
    gm_event_file_close(&f);
    curve(shown, sizeof shown, "loss");
    assert_string_equal(shown, "1:1 2:2 3:3 4:4 start@5 5:50 6:60 7:70 8:80 ");
    CHECK_OK(gm_event_file_open(&f, folder, 2, err)); /* further back than the last session began */
    write_curve(&f, 3, 3, 100);
    gm_event_file_close(&f);
    curve(shown, sizeof shown, "loss");
    assert_string_equal(shown, "1:1 2:2 start@3 3:300 ");
    assert_int_equal(names_of(names), 3);
    /* a record that was being written is cut, another program's file is left alone */
    snprintf(path, sizeof path, "%s/%s", folder, names[2]);
    FILE *file = fopen(path, "ab");
    fwrite("\x18\0\0\0\0", 1, 5, file);
    fclose(file);
    snprintf(path, sizeof path, "%s/events.out.tfevents.1.host", folder);
    CHECK_OK(gm_file_write(path, "theirs", 6, err));
    CHECK_OK(gm_event_file_open(&f, folder, 3, err));
    gm_event_file_close(&f);
    curve(shown, sizeof shown, "loss");
    assert_string_equal(shown, "1:1 2:2 start@3 3:300 start@4 ");
    assert_true(gm_path_exists(path));
    /* begun anew */
    CHECK_OK(gm_event_file_open(&f, folder, -1, err));
    gm_event_file_close(&f);
    curve(shown, sizeof shown, "loss");
    assert_string_equal(shown, "");
    assert_int_equal(names_of(names), 2);
}

/* A folder of links to another run's files: that run keeps all its steps, whether this one goes on or begins anew. */
static void a_linked_file_is_left_whole(void **state) {
    (void)state;
    char shown[512], theirs[1024], link[1024];
    gm_event_file f;
    struct stat before, after;
    CHECK_OK(gm_event_file_open(&f, folder, -1, err));
    write_curve(&f, 1, 6, 1);
    gm_event_file_close(&f);
    snprintf(theirs, sizeof theirs, "%s.theirs", folder);
    assert_int_equal(rename(f.path, theirs), 0);
    snprintf(link, sizeof link, "%s", f.path);
    assert_int_equal(symlink(theirs, link), 0);
    assert_int_equal(stat(theirs, &before), 0);
    for (int keep = 4; keep >= -1; keep -= 5) {
        CHECK_OK(gm_event_file_open(&f, folder, keep, err));
        gm_event_file_close(&f);
        assert_int_equal(stat(theirs, &after), 0);
        assert_true(after.st_size == before.st_size && after.st_mtim.tv_nsec == before.st_mtim.tv_nsec);
        assert_int_equal(gm_path_exists(link), keep >= 0);
        curve(shown, sizeof shown, "loss");
        assert_string_equal(shown, keep >= 0 ? "1:1 2:2 3:3 4:4 5:5 6:6 start@5 " : "");
    }
    unlink(theirs);
}

static void damage_is_named_and_nothing_touched(void **state) {
    (void)state;
    gm_event_file f, again;
    CHECK_OK(gm_event_file_open(&f, folder, -1, err));
    write_curve(&f, 1, 3, 1);
    gm_event_file_close(&f);
    gm_file file;
    CHECK_OK(gm_file_open(&file, f.path, err));
    size_t size = file.size;
    uint8_t *copy = malloc(size);
    memcpy(copy, file.data, size);
    gm_file_close(&file);
    const size_t first = 12 + 24 + 4; /* of the record behind the version's */
    const struct {
        size_t at;
        const char *words;
    } cases[] = {{first, "length"}, {first + 9, "length"}, {first + 14, "checksum"}, {0, "byte 0"}};
    for (int i = 0; i < GM_COUNT(cases); i++) {
        gm_error wrong = {.offset = -1};
        copy[cases[i].at] ^= 0x40;
        CHECK_OK(gm_file_write(f.path, copy, size, err));
        assert_int_equal(gm_event_file_open(&again, folder, 2, &wrong), GM_EFORMAT);
        assert_non_null(strstr(wrong.msg, cases[i].words));
        assert_non_null(strstr(wrong.msg, f.path));
        assert_true(wrong.offset >= 0 && wrong.offset <= (int64_t)size);
        CHECK_OK(gm_file_open(&file, f.path, err));
        assert_int_equal(file.size, size);
        gm_file_close(&file);
        copy[cases[i].at] ^= 0x40;
    }
    free(copy);
    gm_error wrong = {.offset = -1};
    assert_int_equal(gm_event_file_open(&again, "/nonexistent/folder", -1, &wrong), GM_EIO);
    assert_int_equal(gm_png_encode(&copy, &size, NULL, 0, 5, &wrong), GM_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_record_is_tensorflows),
        cmocka_unit_test_teardown(values_are_read_again, clear),
        cmocka_unit_test(histograms_hold_their_values),
        cmocka_unit_test_teardown(resuming_shows_each_step_once, clear),
        cmocka_unit_test_teardown(a_linked_file_is_left_whole, clear),
        cmocka_unit_test_teardown(damage_is_named_and_nothing_touched, clear),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
