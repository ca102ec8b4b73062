/* SPDX-License-Identifier: MIT */
/*
 * One address drawn as SVG (explain.h): each table that a walk goes through is a box, the
 * entry that it uses is lit at its place in the box, and a line leads on to the next. One row
 * for the guest's tables, one for the shadow tables; of second-level tables one for each
 * address that they translate.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/outfile.h"
#include "inspect/explain.h"
#include "trace/trace.h"

#define LEFT        24
#define TOP         96
#define BOX_W       150
#define BOX_H       128
#define GAP         74  /* between boxes */
#define ROW_H       226 /* from one row to the next */
#define LIT_H       10
#define COLUMNS     6  /* five levels and the page */
#define WORDS_SHOWN 32 /* of an entry's, below its box */
#define ROWS_MAX    7u

struct row {
    enum pn_dimension dimension;
    uint8_t of;
    char title[96];
    const struct pn_step *step[5];
    unsigned steps;
    bool ends; /* in the page */
};

struct drawing {
    const struct pn_explanation *x;
    struct row row[ROWS_MAX];
    unsigned rows;
};

/* ---- What there is to draw ---- */

static struct row *row_of(struct drawing *d, const struct pn_step *s) {
    struct row *r = d->rows ? &d->row[d->rows - 1] : NULL;
    if (r && r->dimension == s->dimension && r->of == s->of)
        return r;
    if (d->rows == ROWS_MAX)
        return NULL;
    r = &d->row[d->rows++];
    r->dimension = s->dimension;
    r->of = s->of;
    if (s->dimension == PN_DIM_GUEST)
        snprintf(r->title, sizeof(r->title), "The guest's tables");
    else if (s->dimension == PN_DIM_SHADOW)
        snprintf(r->title, sizeof(r->title), "The shadow tables");
    else if (s->of)
        snprintf(
            r->title, sizeof(r->title),
            "The second-level tables for the guest's entry of level %u, gpa 0x%" PRIx64,
            s->of, s->at);
    else
        snprintf(r->title, sizeof(r->title),
                 "The second-level tables for the page, gpa 0x%" PRIx64, s->at);
    return r;
}

static void collect(struct drawing *d) {
    for (unsigned i = 0; i < d->x->steps; i++) {
        const struct pn_step *s = &d->x->step[i];
        struct row *r = s->dimension == PN_DIM_NESTED ? NULL : row_of(d, s);
        if (r && r->steps < 5)
            r->step[r->steps++] = s;
    }
    for (unsigned i = 0; i < d->rows; i++)
        d->row[i].ends = d->x->found && d->row[i].dimension == PN_DIM_GUEST;
}

/* ---- Drawing ---- */

static const char style[] =
    "<style>svg{--bg:#fff;--fg:#1a1a1a;--soft:#555;--box:#f1f3f6;--line:#4b6cc1;--lit:#"
    "e07a1f}"
    "@media (prefers-color-scheme:dark){svg{--bg:#16181c;--fg:#e8e8e8;--soft:#b4b8bf;"
    "--box:#262a31;--line:#8aa6f2;--lit:#ffa24d}}"
    "text{font:13px "
    "system-ui,sans-serif;fill:var(--fg)}.soft{fill:var(--soft);font-size:12px}"
    ".head{font-weight:600;font-size:17px}.row{font-weight:600;font-size:14px}"
    ".box{fill:var(--box);stroke:var(--soft)}.lit{fill:var(--lit)}"
    ".way{fill:none;stroke:var(--line);stroke-width:2}</style>";

static void put(FILE *out, const char *words) {
    for (; *words; words++)
        if (*words == '<' || *words == '&')
            fputs(*words == '<' ? "&lt;" : "&amp;", out);
        else
            fputc(*words, out);
}

static void say(FILE *out, int x, int y, const char *class, const char *words) {
    fprintf(out, "<text x=\"%d\" y=\"%d\" class=\"%s\">", x, y, class);
    put(out, words);
    fputs("</text>\n", out);
}

static int lit_at(const struct pn_explanation *x, const struct pn_step *s) {
    bool four_bytes = s->dimension == PN_DIM_GUEST && (x->mode & PN_MODE_LEVELS) == 2;
    unsigned entries = four_bytes ? 1024 : s->reads ? 512 : 4;
    return (int)(s->index * (unsigned)(BOX_H - LIT_H) / (entries - 1));
}

static void draw_step(const struct drawing *d, const struct pn_step *s, int left, int top,
                      bool leads, FILE *out) {
    char words[256] = "", text[320];
    int lit = top + lit_at(d->x, s);
    FILE *f = fmemopen(words, sizeof(words), "w");
    if (f) {
        entry_print(d->x, s, f);
        fclose(f);
    }
    words[sizeof(words) - 1] = 0;
    fprintf(out, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" class=\"box\"/>\n",
            left, top, BOX_W, BOX_H);
    fprintf(out, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" class=\"lit\"/>\n",
            left, lit, BOX_W, LIT_H);
    snprintf(text, sizeof(text), "level %u, entry %u", s->level, s->index);
    say(out, left, top - 8, "", text);
    snprintf(text, sizeof(text), "0x%" PRIx64, s->entry);
    say(out, left, top + BOX_H + 17, "", text);
    snprintf(text, sizeof(text), "%.*s%s", WORDS_SHOWN, words,
             strlen(words) > WORDS_SHOWN ? "..." : "");
    fputs("<g><title>", out); /* all of it, where a pointer rests on it */
    put(out, words);
    fputs("</title>\n", out);
    say(out, left, top + BOX_H + 33, "soft", text);
    fputs("</g>\n", out);
    if (leads)
        fprintf(out, "<path d=\"M%d %d C%d %d %d %d %d %d\" class=\"way\"/>\n",
                left + BOX_W, lit + LIT_H / 2, left + BOX_W + GAP / 2, lit + LIT_H / 2,
                left + BOX_W + GAP / 2, top + 4, left + BOX_W + GAP, top + 4);
}

static void draw_page(const struct pn_explanation *x, int left, int top, FILE *out) {
    char text[96];
    fprintf(out, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" class=\"box\"/>\n",
            left, top, BOX_W, BOX_H / 2);
    say(out, left, top - 8, "", "the page");
    snprintf(text, sizeof(text), "gpa 0x%" PRIx64, x->gpa);
    say(out, left + 8, top + 26, "", text);
    if (x->level) {
        snprintf(text, sizeof(text), "%s",
                 page_words(x->level, (x->mode & PN_MODE_LEVELS) == 2));
        say(out, left + 8, top + 46, "soft", text);
    }
}

static void draw_row(const struct drawing *d, const struct row *r, int top, FILE *out) {
    int left = LEFT;
    say(out, left, top - 34, "row", r->title);
    for (unsigned i = 0; i < r->steps; i++, left += BOX_W + GAP)
        draw_step(d, r->step[i], left, top, i + 1 < r->steps || r->ends, out);
    if (r->ends)
        draw_page(d->x, left, top, out);
}

int explain_svg(const struct view *v, pn_gva gva, FILE *out) {
    struct pn_explanation x;
    struct drawing d = {.x = &x};
    char text[200], mode[WORDS_MAX];
    if (pn_mmu_explain(v->vcpu, gva, &x))
        return -ENOMEM;
    collect(&d);
    int width = 2 * LEFT + COLUMNS * (BOX_W + GAP) - GAP;
    int height = TOP + (int)(d.rows ? d.rows : 1) * ROW_H;
    fprintf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
        "height=\"%d\">%s\n<rect width=\"100%%\" height=\"100%%\" "
        "style=\"fill:var(--bg)\"/>\n",
        width, height, width, height, style);
    snprintf(text, sizeof(text), "gva 0x%" PRIx64 ", vCPU %u under --mmu %s", gva, v->cpu,
             v->ops->name);
    say(out, LEFT, 34, "head", text);
    snprintf(text, sizeof(text), "%s, CR3 0x%" PRIx64 "%s",
             words_of(PN_TYPE_mode, x.mode, mode), x.paging.cr3,
             x.found ? "" : ": the guest's tables do not map it");
    say(out, LEFT, 54, "soft", text);
    for (unsigned i = 0; i < d.rows; i++)
        draw_row(&d, &d.row[i], TOP + 38 + (int)i * ROW_H, out);
    if (!d.rows)
        say(out, LEFT, TOP + 20, "",
            "No walk: paging is off, or this is no linear address.");
    fputs("</svg>\n", out);
    return 0;
}

int explain_svg_file(const struct view *v, pn_gva gva, int fd) {
    FILE *out = outfile_stream(fd);
    if (!out)
        return -errno;
    int rc = explain_svg(v, gva, out), closed = outfile_close_stream(out);
    return rc ? rc : closed;
}
