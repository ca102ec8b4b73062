/* SPDX-License-Identifier: MIT */
/* The result page's template, its script and the chart library as bytes: result.c. */
    .section .rodata
    .globl bench_page, bench_page_end, bench_script, bench_script_end
    .globl bench_chart, bench_chart_end
bench_page:
    .incbin PAGE_HTML
bench_page_end:
    .byte 0
bench_script:
    .incbin PAGE_JS
bench_script_end:
    .byte 0
bench_chart:
    .incbin CHART_JS
bench_chart_end:
    .byte 0
    .section .note.GNU-stack, "", @progbits
