/* The base: UTF-8, text and log. */
#include "rm.h"
#include "rm_test.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>

/* >>utf8 ---------------------------------------------------------------------------------- */

TEST(utf8, takes_and_refuses_what_rfc_3629_says) {
    static const struct {
        const char *bytes;
        size_t size, length;
    } cases[] = {
        {"a", 1, 1},
        {"\x00", 1, 1},
        {"\x7F", 1, 1},
        {"\xC2\x80", 2, 2},         /* U+0080 */
        {"\xDF\xBF", 2, 2},         /* U+07FF */
        {"\xE0\xA0\x80", 3, 3},     /* U+0800 */
        {"\xED\x9F\xBF", 3, 3},     /* U+D7FF */
        {"\xEE\x80\x80", 3, 3},     /* U+E000 */
        {"\xEF\xBF\xBF", 3, 3},     /* U+FFFF */
        {"\xF0\x90\x80\x80", 4, 4}, /* U+10000 */
        {"\xF4\x8F\xBF\xBF", 4, 4}, /* U+10FFFF */
        {"\xC3\xA9tail", 6, 2},     /* more behind it */
        {"\x80", 1, 0},             /* begins in the middle */
        {"\xBF", 1, 0},
        {"\xC0\x80", 2, 0}, /* overlong */
        {"\xC1\xBF", 2, 0},
        {"\xE0\x80\x80", 3, 0},
        {"\xE0\x9F\xBF", 3, 0},
        {"\xF0\x80\x80\x80", 4, 0},
        {"\xF0\x8F\xBF\xBF", 4, 0},
        {"\xED\xA0\x80", 3, 0}, /* surrogates */
        {"\xED\xBF\xBF", 3, 0},
        {"\xF4\x90\x80\x80", 4, 0}, /* above U+10FFFF */
        {"\xF5\x80\x80\x80", 4, 0},
        {"\xF8\x88\x80\x80\x80", 5, 0}, /* five bytes */
        {"\xFE", 1, 0},
        {"\xFF", 1, 0},
        {"\xC3", 1, 0}, /* cut */
        {"\xE2\x82", 2, 0},
        {"\xF0\x9F\x98", 3, 0},
        {"\xC3\x28", 2, 0}, /* no continuation */
        {"\xE2\x28\xA1", 3, 0},
        {"\xE2\x82\x28", 3, 0},
        {"\xF0\x9F\x98\x28", 4, 0},
        {"\xF0\x28\x98\x80", 4, 0},
        {"", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i)
        CHECK_EQ(rm_utf8_length(cases[i].bytes, cases[i].size), cases[i].length);
    CHECK_EQ(rm_utf8_length(NULL, 0), 0);
    CHECK_EQ(rm_utf8_length(NULL, 4), 0);
}

TEST(utf8, does_not_look_behind_the_end) {
    static const char *const characters[] = {"\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (size_t i = 0; i < 3; ++i)
        for (size_t size = 0; size < i + 2; ++size)
            CHECK_EQ(rm_utf8_length(characters[i], size), 0);
}

static size_t encode(uint32_t code, char *out) {
    if (code < 0x80) return out[0] = (char)code, 1;
    if (code < 0x800)
        return out[0] = (char)(0xC0 | code >> 6), out[1] = (char)(0x80 | (code & 63)), 2;
    if (code < 0x10000)
        return out[0] = (char)(0xE0 | code >> 12), out[1] = (char)(0x80 | (code >> 6 & 63)),
               out[2] = (char)(0x80 | (code & 63)), 3;
    return out[0] = (char)(0xF0 | code >> 18), out[1] = (char)(0x80 | (code >> 12 & 63)),
           out[2] = (char)(0x80 | (code >> 6 & 63)), out[3] = (char)(0x80 | (code & 63)), 4;
}

TEST(utf8, takes_every_character_and_nothing_else) {
    /* every character; then as many sequences of four bytes from the edges of the ranges as
       begin with a character */
    static const unsigned char edges[] = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                                          0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xEC, 0xED, 0xEE,
                                          0xEF, 0xF0, 0xF3, 0xF4, 0xF5, 0xFF};
    enum { EDGES = sizeof edges };
    char text[4] = {0}, again[4];
    for (uint32_t code = 0; code < 0x110000; ++code) {
        const size_t length = encode(code, text);
        CHECK_EQ(rm_utf8_length(text, length), code >= 0xD800 && code < 0xE000 ? 0 : length);
    }
    for (int i = 0; i < EDGES * EDGES * EDGES * EDGES; ++i) {
        uint32_t code = 0;
        size_t length;
        text[0] = (char)edges[i % EDGES];
        text[1] = (char)edges[i / EDGES % EDGES];
        text[2] = (char)edges[i / EDGES / EDGES % EDGES];
        text[3] = (char)edges[i / EDGES / EDGES / EDGES];
        length = rm_utf8_length(text, 4);
        if (length == 0) continue;
        code = length == 1 ? (unsigned char)text[0]
                           : (uint32_t)(unsigned char)text[0] & (0xFFu >> (length + 1));
        for (size_t k = 1; k < length; ++k)
            code = code << 6 | ((unsigned char)text[k] & 63u);
        CHECK(code < 0x110000 && (code < 0xD800 || code > 0xDFFF));
        CHECK(encode(code, again) == length && memcmp(again, text, length) == 0);
    }
}

/* >>text ---------------------------------------------------------------------------------- */

static char buffer[8192];

/* The text as a string, in `buffer`. */
static const char *string_of(rm_text *text) {
    CHECK(!text->overflow && text->used < sizeof buffer);
    buffer[text->used] = '\0';
    return buffer;
}

static rm_text fresh(void) {
    return rm_text_make(buffer, sizeof buffer);
}

TEST(text, is_written_piece_after_piece) {
    rm_text text = fresh();
    rm_text_string(&text, "a");
    rm_text_bytes(&text, "bcd", 2);
    rm_text_string(&text, "");
    rm_text_string(&text, NULL);
    rm_text_bytes(&text, NULL, 5);
    rm_text_bytes(&text, "x", 0);
    CHECK(rm_text_flush(&text));
    CHECK_STR(string_of(&text), "abc");
}

TEST(text, that_does_not_fit_is_dropped_by_the_piece) {
    char small[4] = {'#', '#', '#', '#'};
    rm_text text = rm_text_make(small, 3);
    rm_text_string(&text, "ab");
    CHECK(!text.overflow);
    rm_text_string(&text, "cd");
    CHECK(text.overflow);
    rm_text_string(&text, "e"); /* would fit, but a text has no holes */
    CHECK_EQ(text.used, 2);
    CHECK(!rm_text_flush(&text));
    CHECK(memcmp(small, "ab##", 4) == 0);
    text = rm_text_make(small, 3);
    rm_text_string(&text, "xyz");
    CHECK(!text.overflow && text.used == 3 && small[3] == '#');
}

TEST(text, without_a_buffer_overflows) {
    char one;
    rm_text text = rm_text_make(NULL, 100);
    rm_text_string(&text, "");
    CHECK(!text.overflow);
    rm_text_string(&text, "a");
    CHECK(text.overflow);
    text = rm_text_make(&one, 0);
    rm_text_int(&text, 5);
    CHECK(text.overflow && text.used == 0);
}

/* A receiver of flushed text that stops after `limit` bytes. */
typedef struct receiver {
    char data[4096];
    size_t used, limit, calls;
} receiver;

static bool receive(const char *data, size_t size, void *user) {
    receiver *r = (receiver *)user;
    r->calls++;
    CHECK(size > 0);
    if (r->used + size > r->limit) return false;
    memcpy(r->data + r->used, data, size);
    r->used += size;
    return true;
}

static void write_sample(rm_text *text) {
    for (int i = 0; i < 20; ++i) {
        rm_text_json(text, "a\"b\n\xFF\xE2\x82\xAC", 8);
        rm_text_int(text, INT64_MIN);
        rm_text_double(text, 0.1);
        rm_text_decimal(text, -1234567, 3);
        rm_text_string(text, "a longer piece of text than most buffers here");
    }
}

TEST(text, flows_through_a_buffer_of_any_size) {
    static receiver whole, r;
    char small[100];
    rm_text text = fresh();
    write_sample(&text);
    CHECK(!text.overflow);
    for (size_t size = 1; size <= sizeof small; ++size) {
        memset(&r, 0, sizeof r);
        r.limit = sizeof r.data;
        text = rm_text_make(small, size);
        text.flush_fn = receive;
        text.user = &r;
        write_sample(&text);
        CHECK(rm_text_flush(&text));
        CHECK(!text.overflow && text.used == 0);
        CHECK(rm_text_flush(&text)); /* nothing is left */
        CHECK_EQ(r.calls, (r.used + size - 1) / size);
        if (size == 1) whole = r;
        CHECK(r.used == whole.used && memcmp(r.data, whole.data, r.used) == 0);
    }
    text = fresh();
    write_sample(&text);
    CHECK(text.used == whole.used && memcmp(buffer, whole.data, whole.used) == 0);
}

TEST(text, ends_when_its_receiver_says_stop) {
    static receiver r;
    char small[10];
    rm_text text = rm_text_make(small, sizeof small);
    r.limit = 25;
    text.flush_fn = receive;
    text.user = &r;
    write_sample(&text);
    CHECK(text.overflow);
    CHECK_EQ(r.calls, 3);
    CHECK_EQ(r.used, 20);
    CHECK(!rm_text_flush(&text));
    CHECK_EQ(r.calls, 3);
    text = rm_text_make(NULL, 0);
    text.flush_fn = receive;
    text.user = &r;
    rm_text_string(&text, "x");
    CHECK(text.overflow);
    CHECK_EQ(r.calls, 3);
}

static const char *int_text(int64_t value) {
    rm_text text = fresh();
    rm_text_int(&text, value);
    return string_of(&text);
}

static const char *uint_text(uint64_t value) {
    rm_text text = fresh();
    rm_text_uint(&text, value);
    return string_of(&text);
}

TEST(text, writes_integers) {
    char expected[32];
    rm_rng rng;
    CHECK_STR(int_text(0), "0");
    CHECK_STR(int_text(-1), "-1");
    CHECK_STR(int_text(INT64_MIN), "-9223372036854775808");
    CHECK_STR(int_text(INT64_MAX), "9223372036854775807");
    CHECK_STR(uint_text(0), "0");
    CHECK_STR(uint_text(10), "10");
    CHECK_STR(uint_text(UINT64_MAX), "18446744073709551615");
    rm_rng_seed(&rng, 1);
    for (int i = 0; i < 2000; ++i) {
        const uint64_t number = rm_rng_next(&rng) >> i % 64;
        (void)snprintf(expected, sizeof expected, "%llu", (unsigned long long)number);
        CHECK_STR(uint_text(number), expected);
        (void)snprintf(expected, sizeof expected, "%lld", (long long)number);
        CHECK_STR(int_text((int64_t)number), expected);
    }
}

static const char *decimal_text(int64_t value, uint32_t decimals) {
    rm_text text = fresh();
    rm_text_decimal(&text, value, decimals);
    return string_of(&text);
}

/* Puts the point into the digits by hand. */
static void place_point(int64_t value, uint32_t decimals, char *out) {
    char digits[64];
    const unsigned long long size =
        value < 0 ? 0 - (unsigned long long)value : (unsigned long long)value;
    int length = snprintf(digits, sizeof digits, "%0*llu", (int)decimals + 1, size);
    const int whole = length - (int)decimals;
    while (length > whole && digits[length - 1] == '0')
        --length;
    (void)snprintf(out, 64, "%s%.*s%s%.*s", value < 0 ? "-" : "", whole, digits,
                   length > whole ? "." : "", length - whole, digits + whole);
}

TEST(text, writes_decimals_exactly) {
    char expected[64];
    rm_rng rng;
    CHECK_STR(decimal_text(1500, 3), "1.5");
    CHECK_STR(decimal_text(1000, 3), "1");
    CHECK_STR(decimal_text(-1, 3), "-0.001");
    CHECK_STR(decimal_text(0, 9), "0");
    CHECK_STR(decimal_text(12, 0), "12");
    CHECK_STR(decimal_text(INT64_MIN, 0), "-9223372036854775808");
    CHECK_STR(decimal_text(INT64_MIN, 18), "-9.223372036854775808");
    CHECK_STR(decimal_text(INT64_MAX, 9), "9223372036.854775807");
    CHECK_STR(decimal_text(1, 18), "0.000000000000000001");
    CHECK_STR(decimal_text(1, 19), "0.000000000000000001"); /* at most 18 */
    CHECK_STR(decimal_text(1, UINT32_MAX), "0.000000000000000001");
    rm_rng_seed(&rng, 2);
    for (int i = 0; i < 5000; ++i) {
        int64_t value = (int64_t)(rm_rng_next(&rng) >> i % 64);
        if (i % 3 == 0) value = value / 1000 * 1000;
        place_point(value, (uint32_t)(i % 19), expected);
        CHECK_STR(decimal_text(value, (uint32_t)(i % 19)), expected);
    }
}

static const char *double_text(double value) {
    rm_text text = fresh();
    rm_text_double(&text, value);
    return string_of(&text);
}

static double from_bits(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint64_t to_bits(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Reads a double.  strtod of MinGW-w64 10 is wrong next to powers of two; its strtold is right. */
static double read_double(const char *string, char **end) {
#ifdef __MINGW32__
    return (double)strtold(string, end);
#else
    return strtod(string, end);
#endif
}

/* Writes a double, reads it back and compares all bits. */
static void check_round_trip(double value) {
    const char *string = double_text(value);
    char *end;
    const double back = read_double(string, &end);
    CHECK(*end == '\0');
    if (!CHECK(to_bits(back) == to_bits(value)))
        printf("# %016llx became %s\n", (unsigned long long)to_bits(value), string);
    CHECK(strlen(string) <= 24);
    for (; *string != '\0'; ++string)
        CHECK(strchr("0123456789+-.e", *string) != NULL);
}

TEST(text, writes_doubles) {
    CHECK_STR(double_text(0.0), "0");
    CHECK_STR(double_text(-0.0), "-0");
    CHECK_STR(double_text(1.0), "1");
    CHECK_STR(double_text(-1.5), "-1.5");
    CHECK_STR(double_text(0.1), "0.1");
    CHECK_STR(double_text(from_bits(0x3FD3333333333334u)), "0.30000000000000004");
    CHECK_STR(double_text(1e22), "1e+22");
    CHECK_STR(double_text(1e15), "1e+15");
    CHECK_STR(double_text(999999999999999.0), "999999999999999");
    CHECK_STR(double_text(123456789.125), "123456789.125");
    CHECK_STR(double_text(from_bits(1)), "5e-324");
    CHECK_STR(double_text(from_bits(0x7FEFFFFFFFFFFFFFu)), "1.7976931348623157e+308");
    CHECK_STR(double_text(from_bits(0x7FF0000000000000u)), "+Inf");
    CHECK_STR(double_text(from_bits(0xFFF0000000000000u)), "-Inf");
    CHECK_STR(double_text(from_bits(0x7FF8000000000000u)), "NaN");
    CHECK_STR(double_text(from_bits(0xFFF8000000000001u)), "NaN");
}

static void check_many_doubles(int count) {
    rm_rng rng;
    rm_rng_seed(&rng, 3);
    for (int i = 0; i < count; ++i) {
        const uint64_t bits = rm_rng_next(&rng);
        if ((bits >> 52 & 0x7FF) != 0x7FF) check_round_trip(from_bits(bits));
        check_round_trip(from_bits(bits >> (12 + i % 52)));             /* subnormal */
        check_round_trip((double)(int64_t)bits / 1000);                 /* money, times */
        check_round_trip((double)(int64_t)(bits >> i % 64));            /* whole */
        check_round_trip(from_bits((uint64_t)(i % 0x7FF) << 52));       /* powers of two */
        check_round_trip(from_bits(((uint64_t)(i % 0x7FF) << 52) + 1)); /* and next to them */
        check_round_trip(from_bits(((uint64_t)(1 + i % 0x7FE) << 52) - 1));
    }
}

TEST(text, writes_doubles_that_read_back_the_same) {
    check_many_doubles(6000);
}

TEST(text, writes_no_more_digits_than_needed) {
    static const char *const decimals[] = {
        "0.3",    "2.2250738585072014e-308", "1.1",         "1e-05", "0.000123", "123456.789012345",
        "5e-324", "9.5367431640625e-07",     "1.2345e+100", "4.35",  "1e-307"};
    for (size_t i = 0; i < sizeof decimals / sizeof *decimals; ++i)
        CHECK_STR(double_text(read_double(decimals[i], NULL)), decimals[i]);
}

TEST(text, writes_doubles_with_a_point_whatever_the_locale) {
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "de_DE",
                                        "German_Germany.1252"};
    bool comma = false;
    for (size_t i = 0; !comma && i < sizeof names / sizeof *names; ++i)
        comma = setlocale(LC_NUMERIC, names[i]) != NULL && localeconv()->decimal_point[0] == ',';
    if (comma) {
        CHECK_STR(double_text(1.5), "1.5");
        CHECK_STR(double_text(-1.25e-7), "-1.25e-07");
        CHECK_STR(double_text(from_bits(0x3FD3333333333334u)), "0.30000000000000004");
    } else {
        printf("# no locale with a decimal comma here\n");
    }
    (void)setlocale(LC_NUMERIC, "C");
}

/* >>json ---------------------------------------------------------------------------------- */

static const char *json_text(const char *data, size_t size) {
    rm_text text = fresh();
    rm_text_json(&text, data, size);
    return string_of(&text);
}

TEST(json, escapes_what_json_forbids) {
    CHECK_STR(json_text("plain", 5), "\"plain\"");
    CHECK_STR(json_text("", 0), "\"\"");
    CHECK_STR(json_text(NULL, 5), "\"\"");
    CHECK_STR(json_text("a\"b\\c/d", 7), "\"a\\\"b\\\\c/d\"");
    CHECK_STR(json_text("\n\t\r\b\f\x1F\x7F", 7),
              "\"\\n\\u0009\\u000d\\u0008\\u000c\\u001f\\u007f\"");
    CHECK_STR(json_text("a\0b", 3), "\"a\\u0000b\"");
    CHECK_STR(json_text("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 9),
              "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"");
}

TEST(json, replaces_invalid_utf8) {
    CHECK_STR(json_text("\xFF", 1), "\"\\ufffd\"");
    CHECK_STR(json_text("a\xC3", 2), "\"a\\ufffd\"");
    CHECK_STR(json_text("\xC3(", 2), "\"\\ufffd(\"");
    CHECK_STR(json_text("\xE2\x82", 2), "\"\\ufffd\\ufffd\"");
    CHECK_STR(json_text("\xED\xA0\x80", 3), "\"\\ufffd\\ufffd\\ufffd\"");
}

/* A reader for what the log writes: a flat object of strings, numbers, true, false and null. */
typedef struct json_pair {
    char key[400], value[3000];
    bool string;
} json_pair;

static json_pair pairs[64];

/* Reads a string into out, which is NUL-terminated.  NULL when it is not one. */
static const char *json_string(const char *p, const char *end, char *out, size_t room) {
    size_t used = 0;
    if (p == end || *p++ != '"') return NULL;
    while (p < end && *p != '"') {
        const size_t length = rm_utf8_length(p, (size_t)(end - p));
        unsigned code = 0;
        if (length == 0 || (unsigned char)*p < 0x20 || used + 5 > room) return NULL;
        if (*p != '\\') {
            memcpy(out + used, p, length);
            used += length;
            p += length;
            continue;
        }
        if (++p == end) return NULL;
        if (*p == 'u') {
            char digits[5] = "", *stop;
            if (end - p < 5) return NULL;
            memcpy(digits, p + 1, 4);
            code = (unsigned)strtoul(digits, &stop, 16);
            if (*stop != '\0') return NULL;
            p += 4;
        } else if (*p == 'n') {
            code = '\n';
        } else if (*p == '"' || *p == '\\') {
            code = (unsigned char)*p;
        } else {
            return NULL;
        }
        used += encode(code, out + used);
        ++p;
    }
    out[used] = '\0';
    return p == end ? NULL : p + 1;
}

/* Reads one line.  Returns the number of pairs, or -1 when it is not one whole JSON object. */
static int json_line(const char *p, size_t size) {
    const char *end = p + size;
    int count = 0;
    if (size < 3 || p[size - 1] != '\n' || memchr(p, '\n', size) != p + size - 1 || *p++ != '{')
        return -1;
    for (;;) {
        json_pair *pair = &pairs[count++];
        if (count > 64 || (p = json_string(p, end, pair->key, sizeof pair->key)) == NULL ||
            p == end || *p++ != ':')
            return -1;
        pair->string = *p == '"';
        if (pair->string) {
            p = json_string(p, end, pair->value, sizeof pair->value);
            if (p == NULL) return -1;
        } else {
            size_t length = 0;
            while (p + length < end && strchr("+-.0123456789aeflnrstu", p[length]) != NULL)
                ++length;
            if (length == 0 || length >= sizeof pair->value) return -1;
            memcpy(pair->value, p, length);
            pair->value[length] = '\0';
            p += length;
        }
        if (p == end) return -1;
        if (*p == '}') return p + 2 == end ? count : -1;
        if (*p++ != ',') return -1;
    }
}

TEST(json, of_random_bytes_reads_back) {
    char data[64], expected[300];
    rm_rng rng;
    rm_rng_seed(&rng, 4);
    for (int i = 0; i < 20000; ++i) {
        const size_t size = (size_t)(rm_rng_next(&rng) % sizeof data);
        size_t used = 0;
        const char *string;
        char out[400];
        for (size_t k = 0; k < size; ++k)
            data[k] = (char)(rm_rng_next(&rng) >> (i % 2 == 0 ? 0 : 1) & (i % 2 == 0 ? 255 : 127));
        for (size_t k = 0; k < size;) {
            const size_t length = rm_utf8_length(data + k, size - k);
            if (length > 0) memcpy(expected + used, data + k, length);
            used += length > 0 ? length : encode(0xFFFD, expected + used);
            k += length > 0 ? length : 1;
        }
        string = json_text(data, size);
        CHECK(json_string(string, string + strlen(string), out, sizeof out) != NULL);
        CHECK(memcmp(out, expected, used) == 0 && out[used] == '\0');
    }
}

/* >>log ----------------------------------------------------------------------------------- */

static rm_log_event event_of(int64_t wall_ns, const rm_kv *values, size_t count) {
    rm_log_event event;
    memset(&event, 0, sizeof event);
    event.wall_ns = wall_ns;
    event.component = "rm_pool";
    event.event = "create_failed";
    event.level = RM_LOG_WARN;
    event.values = values;
    event.count = count;
    return event;
}

static const char *line_of(const rm_log_event *event) {
    const size_t size = rm_log_format(event, buffer, sizeof buffer - 1);
    buffer[size] = '\0';
    return buffer;
}

/* The number of pairs of an event's line, which are in `pairs`; -1 when the line is broken. */
static int pairs_of(const rm_log_event *event) {
    const char *line = line_of(event);
    return json_line(line, strlen(line));
}

TEST(log, line_is_exactly_this) {
    const rm_kv values[] = {rm_kv_string("name", "d\"b"), rm_kv_int("tries", -3),
                            rm_kv_double("ratio", 0.25), rm_kv_bool("open", true),
                            rm_kv_bool("shut", false)};
    const rm_log_event event = event_of(INT64_C(1769860800123456789), values, 5);
    CHECK_STR(line_of(&event),
              "{\"time\":\"2026-01-31T12:00:00.123456Z\",\"level\":\"warn\",\"component\":"
              "\"rm_pool\",\"event\":\"create_failed\",\"name\":\"d\\\"b\",\"tries\":-3,\"ratio\":"
              "0.25,\"open\":true,\"shut\":false}\n");
}

TEST(log, line_survives_null_and_nonsense) {
    rm_kv values[8];
    rm_log_event event;
    memset(&event, 0, sizeof event);
    CHECK_STR(line_of(&event), "{\"time\":\"1970-01-01T00:00:00.000000Z\",\"level\":\"default\","
                               "\"component\":\"\",\"event\":\"\"}\n");
    event.count = 5; /* without values */
    CHECK_EQ(pairs_of(&event), 4);
    values[0] = rm_kv_string(NULL, "no key");
    values[1] = rm_kv_string("none", NULL);
    values[2] = rm_kv_double("nan", from_bits(0x7FF8000000000000u));
    values[3] = rm_kv_double("inf", from_bits(0x7FF0000000000000u));
    values[4] = rm_kv_double("minus", from_bits(0xFFF0000000000000u));
    values[5] = rm_kv_int("strange", 1);
    values[5].type = (rm_kv_type)77;
    values[6] = rm_kv_string("bad\xFF", "\xFE");
    values[7] = rm_kv_int("", INT64_MIN);
    event = event_of(0, values, 8);
    event.level = (rm_log_level)99;
    CHECK_STR(line_of(&event),
              "{\"time\":\"1970-01-01T00:00:00.000000Z\",\"level\":\"off\",\"component\":"
              "\"rm_pool\",\"event\":\"create_failed\",\"none\":null,\"nan\":null,\"inf\":null,"
              "\"minus\":null,\"strange\":null,\"bad\\ufffd\":\"\\ufffd\","
              "\"\":-9223372036854775808}\n");
    CHECK_EQ(rm_log_format(NULL, buffer, sizeof buffer), 0);
    CHECK_EQ(rm_log_format(&event, NULL, sizeof buffer), 0);
}

TEST(log, line_cuts_long_names_between_characters) {
    char name[200];
    rm_log_event event = event_of(0, NULL, 0);
    memset(name, 'n', sizeof name);
    name[199] = '\0';
    event.component = name;
    CHECK_EQ(pairs_of(&event), 4);
    CHECK_EQ(strlen(pairs[2].value), 47);
    memcpy(name + 46, "\xE2\x82\xAC", 3);
    event.event = name;
    CHECK_EQ(pairs_of(&event), 4);
    CHECK_EQ(strlen(pairs[2].value), 46);
    CHECK_STR(pairs[3].value, pairs[2].value);
}

TEST(log, line_is_whole_at_every_buffer_size) {
    const rm_kv values[] = {rm_kv_string("first", "1234567890"),
                            rm_kv_string("q", "\"\"\"\"\"\""),
                            rm_kv_int("number", INT64_MIN),
                            rm_kv_double("ratio", 0.1),
                            rm_kv_string("euro", "\xE2\x82\xAC\xE2\x82\xAC\xFF"),
                            rm_kv_bool("yes", true),
                            rm_kv_string("long",
                                         "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                                         "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"),
                            rm_kv_string("last", "\n")};
    const rm_log_event event = event_of(RM_SEC(1), values, 8);
    const size_t full = rm_log_format(&event, buffer, sizeof buffer);
    char whole[1024];
    int most = 0;
    CHECK_EQ(json_line(buffer, full), 4 + 8);
    memcpy(whole, buffer, full);
    for (size_t size = 0; size <= 1024; ++size) {
        char *exact = (char *)malloc(size == 0 ? 1 : size); /* ends where the size says */
        const size_t length = rm_log_format(&event, exact, size);
        int count = 0;
        CHECK(length <= size);
        CHECK(length > 0 || size < 192);
        if (length > 0) {
            count = json_line(exact, length);
            CHECK(count >= 4 && count >= most);
            CHECK_STR(pairs[2].value, "rm_pool");
            if (length == full && memcmp(exact, whole, full) == 0) {
                most = count;
            } else {
                CHECK_STR(pairs[count - 1].key, "truncated");
                CHECK_STR(pairs[count - 1].value, "true");
                most = count - 1;
            }
        }
        CHECK(size < full + 32 || count == 12);
        free(exact);
    }
    CHECK_EQ(most, 12);
}

TEST(log, line_of_random_bytes_is_whole) {
    char data[6][64];
    rm_rng rng;
    rm_rng_seed(&rng, 6);
    for (int i = 0; i < 5000; ++i) {
        rm_kv values[2];
        rm_log_event event = event_of((int64_t)rm_rng_next(&rng), values, 2);
        size_t size;
        for (int k = 0; k < 6; ++k) {
            const size_t length = (size_t)rm_rng_next(&rng) % 64;
            for (size_t m = 0; m < length; ++m)
                data[k][m] = (char)(rm_rng_next(&rng) | 1);
            data[k][length] = '\0';
        }
        values[0] = rm_kv_string(data[0], data[1]);
        values[1] = rm_kv_string(data[2], data[3]);
        event.component = data[4];
        event.event = data[5];
        size = rm_log_format(&event, buffer, (size_t)(rm_rng_next(&rng) % 2048));
        CHECK(size == 0 || json_line(buffer, size) >= 4);
    }
}

/* Checks the head of a line with this time against a date. */
static void check_time(int64_t wall_ns, const char *date) {
    const rm_log_event event = event_of(wall_ns, NULL, 0);
    const size_t size = rm_log_format(&event, buffer, sizeof buffer);
    if (!CHECK(size > 37 && memcmp(buffer + 9, date, 27) == 0))
        printf("# %lld: %.27s, not %s\n", (long long)wall_ns, buffer + 9, date);
}

TEST(log, time_is_right_at_the_edges) {
    check_time(0, "1970-01-01T00:00:00.000000Z");
    check_time(999, "1970-01-01T00:00:00.000000Z");
    check_time(1000, "1970-01-01T00:00:00.000001Z");
    check_time(-1, "1969-12-31T23:59:59.999999Z"); /* rounded down, as everywhere */
    check_time(-1000, "1969-12-31T23:59:59.999999Z");
    check_time(-1001, "1969-12-31T23:59:59.999998Z");
    check_time(-RM_SEC(1), "1969-12-31T23:59:59.000000Z");
    check_time(-RM_SEC(86400), "1969-12-31T00:00:00.000000Z");
    check_time(-RM_SEC(86400) - 1, "1969-12-30T23:59:59.999999Z");
    check_time(RM_SEC(INT64_C(951782399)), "2000-02-28T23:59:59.000000Z");
    check_time(RM_SEC(INT64_C(951782400)), "2000-02-29T00:00:00.000000Z");
    check_time(RM_SEC(INT64_C(951868800)), "2000-03-01T00:00:00.000000Z");
    check_time(RM_SEC(INT64_C(2147483647)), "2038-01-19T03:14:07.000000Z");
    check_time(RM_SEC(INT64_C(2147483648)), "2038-01-19T03:14:08.000000Z");
    check_time(RM_SEC(INT64_C(4107542400)), "2100-03-01T00:00:00.000000Z"); /* no leap year */
    check_time(RM_SEC(INT64_C(-2203891200)), "1900-03-01T00:00:00.000000Z");
    check_time(INT64_MAX, "2262-04-11T23:47:16.854775Z");
    check_time(INT64_MIN, "1677-09-21T00:12:43.145224Z");
}

static int days_of(int year, int month) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (leap && month == 2 ? 1 : 0);
}

TEST(log, time_is_right_on_every_day) {
    char date[64];
    int year = 1678, month = 1, day = 1;
    int64_t at = RM_SEC(INT64_C(-9214560000)); /* 106,650 days before 1970 */
    rm_rng rng;
    rm_rng_seed(&rng, 7);
    for (; year < 2262; at += RM_SEC(86400)) {
        const int64_t us = (int64_t)(rm_rng_next(&rng) % UINT64_C(86400000000));
        const int second = (int)(us / 1000000);
        (void)snprintf(date, sizeof date, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", year, month, day,
                       second / 3600, second / 60 % 60, second % 60, (int)(us % 1000000));
        check_time(at + us * 1000, date);
        if (++day > days_of(year, month)) {
            day = 1;
            month = month % 12 + 1;
            year += month == 1;
        }
    }
    CHECK_EQ(at, RM_SEC(INT64_C(9214646400)));
}

TEST(log, levels_have_names) {
    CHECK_STR(rm_log_level_name(RM_LOG_DEFAULT), "default");
    CHECK_STR(rm_log_level_name(RM_LOG_DEBUG), "debug");
    CHECK_STR(rm_log_level_name(RM_LOG_INFO), "info");
    CHECK_STR(rm_log_level_name(RM_LOG_WARN), "warn");
    CHECK_STR(rm_log_level_name(RM_LOG_ERROR), "error");
    CHECK_STR(rm_log_level_name(RM_LOG_OFF), "off");
}

typedef struct seen {
    int count;
    rm_log_event last;
} seen;

static void see(const rm_log_event *event, void *user) {
    ((seen *)user)->count++;
    ((seen *)user)->last = *event;
}

TEST(log, reports_from_its_level_on) {
    const rm_kv value = rm_kv_int("n", 1);
    for (int lowest = RM_LOG_DEFAULT; lowest <= RM_LOG_OFF + 1; ++lowest)
        for (int level = RM_LOG_DEFAULT; level <= RM_LOG_OFF + 1; ++level) {
            const int from = lowest == RM_LOG_DEFAULT ? RM_LOG_INFO : lowest;
            seen got;
            rm_log log;
            memset(&got, 0, sizeof got);
            log.log_fn = see;
            log.user = &got;
            log.level = (rm_log_level)lowest;
            rm_log_emit(&log, NULL, (rm_log_level)level, "part", "event", &value, 1);
            CHECK_EQ(got.count, level >= from && level < RM_LOG_OFF ? 1 : 0);
        }
}

TEST(log, event_carries_what_was_said) {
    const rm_kv value = rm_kv_int("n", 1);
    rm_virtual_clock virtual_clock;
    rm_clock clock;
    rm_log log;
    seen got;
    REQUIRE(rm_virtual_clock_init(&virtual_clock, 12345, false) == RM_OK);
    clock = rm_virtual_clock_clock(&virtual_clock);
    memset(&got, 0, sizeof got);
    log.log_fn = see;
    log.user = &got;
    log.level = RM_LOG_DEBUG;
    rm_log_emit(&log, &clock, RM_LOG_DEBUG, "part", "happened", &value, 1);
    CHECK_EQ(got.last.wall_ns, 12345);
    CHECK_STR(got.last.component, "part");
    CHECK_STR(got.last.event, "happened");
    CHECK(got.last.values == &value && got.last.count == 1 && got.last.level == RM_LOG_DEBUG);
    rm_log_emit(&log, &clock, RM_LOG_ERROR, NULL, NULL, NULL, 9);
    CHECK_EQ(got.last.count, 0);
    rm_log_emit(NULL, &clock, RM_LOG_ERROR, "part", "event", &value, 1);
    log.log_fn = NULL;
    rm_log_emit(&log, &clock, RM_LOG_ERROR, "part", "event", &value, 1);
    CHECK_EQ(got.count, 2);
    rm_virtual_clock_destroy(&virtual_clock);
}

/* Reads all that was written to a file. */
static const char *content(FILE *file) {
    size_t size;
    rewind(file);
    size = fread(buffer, 1, sizeof buffer - 1, file);
    buffer[size] = '\0';
    return buffer;
}

static int lines_in(const char *text) {
    int lines = 0;
    for (; *text != '\0'; ++text)
        lines += *text == '\n';
    return lines;
}

TEST(log, stream_chain_writes_each_from_its_level_on) {
    FILE *all = tmpfile(), *bad = tmpfile();
    rm_log_stream second = {bad, NULL, RM_LOG_ERROR}, first = {all, &second, RM_LOG_DEBUG};
    rm_log log = {rm_log_to_stream, NULL, RM_LOG_DEBUG};
    const char *at;
    REQUIRE(all != NULL && bad != NULL);
    log.user = &first;
    rm_log_emit(&log, NULL, RM_LOG_DEBUG, "c", "one", NULL, 0);
    rm_log_emit(&log, NULL, RM_LOG_WARN, "c", "two", NULL, 0);
    rm_log_emit(&log, NULL, RM_LOG_ERROR, "c", "three", NULL, 0);
    CHECK_EQ(lines_in(content(all)), 3);
    for (at = buffer; *at != '\0'; at = strchr(at, '\n') + 1)
        CHECK_EQ(json_line(at, (size_t)(strchr(at, '\n') + 1 - at)), 4);
    CHECK_STR(pairs[3].value, "three");
    CHECK_EQ(lines_in(content(bad)), 1);
    CHECK(strstr(buffer, "\"three\"") != NULL);
    first.level = RM_LOG_DEFAULT; /* info */
    rm_log_emit(&log, NULL, RM_LOG_DEBUG, "c", "four", NULL, 0);
    rm_log_emit(&log, NULL, RM_LOG_INFO, "c", "five", NULL, 0);
    CHECK_EQ(lines_in(content(all)), 4);
    CHECK_EQ(lines_in(content(bad)), 1);
    rm_log_to_stream(NULL, &first);
    log.user = NULL;
    rm_log_emit(&log, NULL, RM_LOG_ERROR, "c", "nowhere", NULL, 0);
    (void)fclose(all);
    (void)fclose(bad);
}

TEST(log, stream_writes_a_long_event_as_one_whole_line) {
    static char value[5000];
    const char *line;
    FILE *file = tmpfile();
    rm_log_stream sink = {file, NULL, RM_LOG_DEFAULT};
    const rm_kv values[2] = {rm_kv_string("v", value), rm_kv_int("n", 1)};
    rm_log log = {rm_log_to_stream, &sink, RM_LOG_DEFAULT};
    REQUIRE(file != NULL);
    memset(value, '\x01', sizeof value - 1);
    rm_log_emit(&log, NULL, RM_LOG_INFO, value, value, values, 2);
    line = content(file);
    CHECK_EQ(json_line(line, strlen(line)), 5);
    CHECK_STR(pairs[4].key, "truncated");
    CHECK(strlen(line) <= 2048);
    (void)fclose(file);
}

TEST(log, stream_is_stderr_by_default) {
    rm_log_stream sink = {NULL, NULL, RM_LOG_DEFAULT};
    rm_log log = {rm_log_to_stream, &sink, RM_LOG_DEFAULT};
    rm_log_emit(&log, NULL, RM_LOG_INFO, "test_text", "this_line_is_expected", NULL, 0);
}

TEST_MAIN
