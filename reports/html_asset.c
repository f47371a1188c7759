/* The page's style sheet, script and chart library as bytes, taken in by the assembler when
 * this file is built; paths are relative to the repository root, where make runs.
 * REPORT_CHART_JS is Chart.js 3.9 (MIT), from the Debian package libjs-chart.js; reports.mk
 * names its place. */
#include "reports/html.h"

#ifndef REPORT_CHART_JS
#define REPORT_CHART_JS "/usr/share/javascript/chart.js/chart.min.js"
#endif

#define EMBED(symbol, path)                                                                    \
    __asm__(".pushsection .rodata\n"                                                           \
            ".global " #symbol "\n" #symbol ":\n"                                              \
            ".incbin \"" path "\"\n"                                                           \
            ".global " #symbol "_end\n" #symbol "_end:\n"                                      \
            ".byte 0\n"                                                                        \
            ".popsection\n")

EMBED(report_asset_css, "reports/report.css");
EMBED(report_asset_js, "reports/report.js");
EMBED(report_asset_chart, REPORT_CHART_JS);

extern const char report_asset_css[], report_asset_css_end[];
extern const char report_asset_js[], report_asset_js_end[];
extern const char report_asset_chart[], report_asset_chart_end[];

void report_html_css(report_out *o) {
    report_put_mem(o, report_asset_css, (size_t)(report_asset_css_end - report_asset_css));
}
void report_html_js(report_out *o) {
    report_put_mem(o, report_asset_js, (size_t)(report_asset_js_end - report_asset_js));
}
void report_html_chart(report_out *o) {
    report_put_mem(o, report_asset_chart,
                   (size_t)(report_asset_chart_end - report_asset_chart));
}
