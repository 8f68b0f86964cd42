/* report_page.h -- the page around a report's JSON. Private to report/. */
#ifndef GM_REPORT_PAGE_H
#define GM_REPORT_PAGE_H

#include "base.h"

/* Appends report.html with its style, code, d3 and this JSON in it. */
void gm_report_page(gm_text *page, const char *json);

#endif
