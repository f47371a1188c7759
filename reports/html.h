#ifndef REPORTS_HTML_H
#define REPORTS_HTML_H
/* Pieces of the page. Each prints one section or, without data, nothing; the _data functions
 * print what the charts draw as members of one JSON object. */
#include "reports/out.h"

void report_html_css(report_out *o);
void report_html_js(report_out *o);
void report_html_chart(report_out *o);

/* <td> and its text, escaped; numbers are aligned right by class n. */
void report_html_cell(report_out *o, const char *s);
void report_html_cell_num(report_out *o, double v);
void report_html_cell_count(report_out *o, uint64_t v);
void report_html_badge(report_out *o, drift_verdict v);
/* A frame for a chart that report.js fills with `data` member key[index]; label describes it.
 */
void report_html_figure(report_out *o, const char *key, size_t index, const char *label,
                        const char *caption);

/* A number of the data block; null unless finite. */
void report_html_json_num(report_out *o, double v);

ds4_status report_html_drift(report_out *o, const drift_result *r, ds4_err *err);
void report_html_boundary(report_out *o, const drift_result *r);
void report_html_boundary_data(report_out *o, const drift_result *r);
ds4_status report_html_logits(report_out *o, const drift_result *r, ds4_err *err);
void report_html_logits_data(report_out *o, const drift_result *r);
ds4_status report_html_rows(report_out *o, const drift_result *r, ds4_err *err);
void report_html_bisect(report_out *o, const drift_bisect_result *b);
void report_html_bisect_data(report_out *o, const drift_bisect_result *b);

#endif
