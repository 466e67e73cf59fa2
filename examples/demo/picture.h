/*  picture.h - what the demo prints: a picture of numbers over time, a progress bar, readable
    numbers. It knows nothing of rm. */
#ifndef PICTURE_H_INCLUDED
#define PICTURE_H_INCLUDED

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { PICTURE_WIDTH = 72, PICTURE_SAMPLES = 1 << 16, PICTURE_TEXT = 32 };

/* What the values of a row are. */
typedef enum picture_kind {
    PICTURE_GAUGE, /* measurements: the largest of each slice of time, as a digit */
    PICTURE_STATE, /* each holds until the next: the largest of each slice, as a symbol */
    PICTURE_FLOW   /* amounts: the sum of each slice, as a digit from 0 to 9 of the largest sum */
} picture_kind;

typedef struct picture_row {
    const char *name;
    picture_kind kind;
    const char *symbols; /* of a state, one for each value */
} picture_row;

typedef struct picture_sample {
    int64_t at_ns;
    uint32_t row;
    uint32_t value;
} picture_sample;

/* All samples, in the order of time within each row. */
typedef struct picture {
    uint32_t count;
    picture_sample samples[PICTURE_SAMPLES];
} picture;

/* Notes a value. When there is no room left, the picture ends early. */
static inline void picture_add(picture *p, uint32_t row, int64_t at_ns, uint32_t value) {
    if (p->count == PICTURE_SAMPLES) return;
    p->samples[p->count].at_ns = at_ns;
    p->samples[p->count].row = row;
    p->samples[p->count++].value = value;
}

static inline uint32_t picture_column(int64_t at_ns, int64_t from_ns, int64_t to_ns) {
    const int64_t column = (at_ns - from_ns) * PICTURE_WIDTH / (to_ns - from_ns + 1);
    return column < 0 ? 0 : column >= PICTURE_WIDTH ? PICTURE_WIDTH - 1 : (uint32_t)column;
}

/* One number for each column. */
static inline void picture_columns(const picture *p, picture_kind kind, uint32_t row,
                                   int64_t from_ns, int64_t to_ns, uint32_t out[PICTURE_WIDTH]) {
    uint32_t held = 0, column = 0, i;
    memset(out, 0, sizeof *out * PICTURE_WIDTH);
    for (i = 0; i < p->count; ++i) {
        const picture_sample *sample = &p->samples[i];
        const uint32_t at = picture_column(sample->at_ns, from_ns, to_ns);
        if (sample->row != row) continue;
        for (; kind == PICTURE_STATE && column <= at; ++column) /* held up to here */
            if (held > out[column]) out[column] = held;
        if (kind == PICTURE_FLOW)
            out[at] += sample->value;
        else if (sample->value > out[at])
            out[at] = sample->value;
        held = sample->value;
    }
    for (; kind == PICTURE_STATE && column < PICTURE_WIDTH; ++column)
        if (held > out[column]) out[column] = held;
}

static inline char picture_symbol(const picture_row *row, uint32_t value, uint32_t largest) {
    if (row->kind == PICTURE_STATE) return row->symbols[value];
    if (value == 0) return '.';
    if (row->kind == PICTURE_FLOW)
        value = (uint32_t)(((uint64_t)value * 9 + largest - 1) / largest);
    return value > 9 ? '+' : (char)('0' + value);
}

/* Draws all rows, below a scale in seconds. */
static inline void picture_print(FILE *out, const picture *p, const picture_row *rows,
                                 uint32_t count, int64_t from_ns, int64_t to_ns) {
    uint32_t columns[PICTURE_WIDTH], largest, row, i;
    fprintf(out, "  %-20s ", "seconds");
    for (i = 0; i < 4; ++i)
        fprintf(out, "|%-*.2f", PICTURE_WIDTH / 4 - 1, (double)(to_ns - from_ns) / 4e9 * i);
    fprintf(out, "\n");
    for (row = 0; row < count; ++row) {
        picture_columns(p, rows[row].kind, row, from_ns, to_ns, columns);
        for (i = 0, largest = 1; i < PICTURE_WIDTH; ++i)
            largest = columns[i] > largest ? columns[i] : largest;
        fprintf(out, "  %-20s ", rows[row].name);
        for (i = 0; i < PICTURE_WIDTH; ++i)
            (void)fputc(picture_symbol(&rows[row], columns[i], largest), out);
        fprintf(out, "\n");
    }
}

/* Writes a text below a point in time. */
static inline void picture_mark(FILE *out, const char *text, int64_t at_ns, int64_t from_ns,
                                int64_t to_ns) {
    const int column = (int)picture_column(at_ns, from_ns, to_ns);
    if (column + (int)strlen(text) + 2 > PICTURE_WIDTH)
        fprintf(out, "  %-20s %*s ^\n", "", column - 1, text);
    else
        fprintf(out, "  %-20s %*s^ %s\n", "", column, "", text);
}

/* 1234567 as 1,234,567. */
static inline const char *picture_count(char text[PICTURE_TEXT], uint64_t number) {
    char plain[PICTURE_TEXT];
    const int length = snprintf(plain, sizeof plain, "%llu", (unsigned long long)number);
    int from, to = 0;
    for (from = 0; from < length; ++from) {
        if (from > 0 && (length - from) % 3 == 0) text[to++] = ',';
        text[to++] = plain[from];
    }
    text[to] = '\0';
    return text;
}

/* Nanoseconds with a unit that suits them. */
static inline const char *picture_time(char text[PICTURE_TEXT], int64_t ns) {
    if (ns < 1000)
        (void)snprintf(text, PICTURE_TEXT, "%lld ns", (long long)ns);
    else if (ns < 1000000)
        (void)snprintf(text, PICTURE_TEXT, "%.1f us", (double)ns / 1e3);
    else
        (void)snprintf(text, PICTURE_TEXT, "%.1f ms", (double)ns / 1e6);
    return text;
}

/* A bar that overwrites itself on a terminal; elsewhere a line for every tenth. */
static inline void picture_progress(FILE *out, bool terminal, uint64_t done, uint64_t total,
                                    const char *said, uint64_t *tenth) {
    char text[PICTURE_TEXT], bar[41];
    const uint64_t now = done * 10 / total, full = done * (sizeof bar - 1) / total;
    if (terminal) {
        memset(bar, '.', sizeof bar - 1);
        memset(bar, '#', (size_t)full);
        bar[sizeof bar - 1] = '\0';
        fprintf(out, "\r[%s] %9s look-ups  %-36s", bar, picture_count(text, done), said);
    } else if (now > *tenth) {
        fprintf(out, "%4d %%  %9s look-ups  %s\n", (int)now * 10, picture_count(text, done), said);
    }
    *tenth = now;
    (void)fflush(out);
}

#endif /* PICTURE_H_INCLUDED */
