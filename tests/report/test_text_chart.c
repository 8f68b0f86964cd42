/* test_text_chart.c -- charts in characters: no line is wider than asked for, nothing from a file reaches the terminal raw, odd series. */
#include "text_chart.h"

#include "model/model_cases.h"

#include <math.h>

static const gm_text_style ascii = {.width = 40}, plain = {.width = 40, .unicode = true}, colored = {60, true, true};

/* Columns of the widest line, escapes not counted. */
static int widest(const char *text) {
    int width = 0, most = 0;
    for (const char *p = text; *p; p++) {
        if (*p == '\033')
            p = strchr(p, 'm');
        else if (*p == '\n')
            width = 0;
        else
            width += (*p & 0xc0) != 0x80;
        most = GM_MAX(most, width);
    }
    return most;
}

static gm_text chart(const gm_text_style *style, const double *y, int count, int series) {
    static const char *const names[] = {"softmax", "softmax1"};
    double x[512];
    gm_chart_line lines[2];
    gm_text out = {0};
    for (int i = 0; i < count; i++)
        x[i] = i + 1;
    for (int s = 0; s < series; s++)
        lines[s] = (gm_chart_line){s, x, y, count};
    gm_chart_lines(&out, style, "loss", "step", lines, series, names, 2, 6);
    assert_false(out.failed);
    return out;
}

static int marks(const char *text, char mark) { /* in the field: between the axis and the names */
    int n = 0;
    for (const char *p = strchr(text, '|'); p && p < strstr(text, "step"); p++)
        n += *p == mark;
    return n;
}

static void shapes(void **state) {
    (void)state;
    static const double rising[] = {0, 1, 2, 3, 4, 5};
    gm_text out = chart(&ascii, rising, 6, 1);
    assert_non_null(strstr(out.data, "       0 |a")); /* from the bottom left */
    assert_non_null(strstr(out.data, "a\n"));         /* to the top right */
    assert_non_null(strstr(out.data, "  a softmax\n"));
    assert_int_equal(widest(out.data), 40);
    assert_int_equal(marks(out.data, 'a'), 30); /* every column once */
    gm_text_free(&out);
    out = chart(&ascii, rising, 6, 2); /* both in the same place */
    assert_int_equal(marks(out.data, '*'), 30);
    gm_text_free(&out);
    out = chart(&plain, rising, 6, 1);
    assert_non_null(strstr(out.data, "┤⣀"));
    gm_text_free(&out);
    out = chart(&plain, rising, 6, 2); /* without colours only letters tell them apart */
    assert_non_null(strstr(out.data, "┤*"));
    gm_text_free(&out);
    out = chart(&colored, rising, 6, 2);
    assert_non_null(strstr(out.data, "\033[33m"));
    assert_int_equal(widest(out.data), 60);
    gm_text_free(&out);
}

static void odd_series(void **state) {
    (void)state;
    static const double one[] = {3.5}, none[] = {NAN, INFINITY, -INFINITY}, gap[] = {1, NAN, 1, INFINITY, 1}, wide[] = {0.001, 1, 1000},
                        negative[] = {-5, -5, -5}, zeros[] = {0, 0};
    gm_text out = chart(&ascii, one, 1, 1);
    assert_int_equal(marks(out.data, 'a'), 1);
    gm_text_free(&out);
    out = chart(&ascii, none, 3, 1);
    assert_string_equal(out.data, "loss: no finite number\n\n");
    gm_text_free(&out);
    out = chart(&ascii, zeros, 2, 1);
    assert_string_equal(out.data, "loss: 0 throughout\n\n");
    gm_text_free(&out);
    char number[16];
    assert_int_equal(gm_chart_number(number, -0.0001, 6), 6);
    assert_string_equal(number, "-1e-04");
    out = chart(&ascii, gap, 5, 1); /* nothing joins them */
    assert_int_equal(marks(out.data, 'a'), 3);
    gm_text_free(&out);
    out = chart(&ascii, wide, 3, 1);
    assert_non_null(strstr(out.data, "loss, logarithmic\n"));
    gm_text_free(&out);
    out = chart(&ascii, negative, 3, 1);
    assert_null(strstr(out.data, "logarithmic"));
    gm_text_free(&out);
    double spike[500]; /* one of 500 steps is seen at the top */
    for (int i = 0; i < 500; i++)
        spike[i] = i == 333 ? 9 : 1;
    out = chart(&ascii, spike, 500, 1);
    const char *top = strstr(out.data, "       9 |"), *end = top ? strchr(top, '\n') : NULL;
    assert_true(end && memchr(top, 'a', (size_t)(end - top)));
    gm_text_free(&out);
}

static void text_is_made_harmless(void **state) {
    (void)state;
    gm_text out = {0};
    int columns = 0;
    gm_chart_text(&out, &plain, "a\033[31mb\n\x7f\xc2\x9bü", &columns);
    assert_string_equal(out.data, "a?[31mb???ü");
    assert_int_equal(columns, 11);
    gm_text_free(&out);
    gm_chart_text(&out, &ascii, "ü", NULL);
    assert_string_equal(out.data, "?");
    gm_text_free(&out);
    gm_chart_wrap(&out, &ascii, "one two three four five six seven eight nine ten eleven", 2);
    assert_string_equal(out.data, "one two three four five six seven eight\n  nine ten eleven\n");
    gm_text_free(&out);
}

static void many_series(void **state) {
    (void)state;
    char names[50][24];
    const char *list[50];
    gm_chart_line lines[50];
    double x[] = {1, 2}, y[50][2];
    gm_text out = {0};
    for (int i = 0; i < 50; i++) {
        snprintf(names[i], sizeof names[i], "clipped:alpha=%d", i + 1);
        list[i] = names[i];
        y[i][0] = i;
        y[i][1] = 50 - i;
        lines[i] = (gm_chart_line){i, x, y[i], 2};
    }
    gm_chart_lines(&out, &colored, "loss", "step", lines, 50, list, 50, 10);
    assert_true(widest(out.data) <= 75); /* the field is 60 wide; "and N more" stands behind the last names */
    assert_non_null(strstr(out.data, "more\n"));
    gm_text_free(&out);
}

static void numbers_cells_and_bars(void **state) {
    (void)state;
    char text[16];
    gm_text out = {0};
    const struct {
        double x;
        int most;
        const char *text;
    } cases[] = {{9.9034, 16, "9.903"},     {12345, 16, "12.3k"},   {-2.5e6, 16, "-2.5M"},   {NAN, 16, "-"},
                 {INFINITY, 16, "-"},       {0, 16, "0"},           {1e300, 16, "1e+300"},   {1.304e13, 16, "1.304e+13"},
                 {1.304e13, 8, "1.3e+13"},  {1.304e13, 6, "1e+13"}, {1.5e-300, 6, "2e-300"}, {1.2345678e-4, 8, "0.000123"},
                 {-9.876e-5, 8, "-9.9e-05"}};
    for (int i = 0; i < GM_COUNT(cases); i++) {
        assert_int_equal(gm_chart_number(text, cases[i].x, cases[i].most), strlen(cases[i].text));
        assert_string_equal(text, cases[i].text);
    }
    const double shares[] = {0, 0.2, 0.5, 1, NAN};
    for (int i = 0; i < GM_COUNT(shares); i++)
        gm_chart_cell(&out, &ascii, shares[i]);
    assert_string_equal(out.data, "..--**##??");
    gm_text_free(&out);
    gm_chart_bar(&out, &ascii, 0.5, 8, 0);
    gm_chart_bar(&out, &ascii, NAN, 8, 0);
    gm_chart_bar(&out, &ascii, 7, 3, 0);
    assert_string_equal(out.data, "#######");
    gm_text_free(&out);
    gm_chart_bar(&out, &plain, 0.5625, 8, 0);
    assert_string_equal(out.data, "████▌");
    gm_text_free(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes), cmocka_unit_test(odd_series), cmocka_unit_test(text_is_made_harmless),
                                       cmocka_unit_test(many_series), cmocka_unit_test(numbers_cells_and_bars)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
