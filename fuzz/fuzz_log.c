/* Log lines, parsed back with cJSON, and numbers as text, read back with the C library.

   cJSON is lenient where a log reader may not be, so a line is looked at first: UTF-8, no control
   characters, one newline at its end.  A line for a small buffer must be the beginning of the whole
   line, cut after a pair, with "truncated":true exactly when a pair did not fit. */
#define RM_IMPLEMENTATION
#include "rm.h"
#include "fuzz.h"

#include <cjson/cJSON.h>
#include <time.h>

enum { PAIRS = 5, LINE = 8192, LONGEST = 1024 };

static const char cut[] = ",\"truncated\":true}\n";

typedef struct world {
    fuzz_input *in;
    rm_log_event event;
    rm_kv pairs[PAIRS];
    char component[80], name[80];
    char keys[PAIRS][12], strings[PAIRS][16];
} world;

static uint64_t pick_bits(fuzz_input *in) {
    uint64_t bits = 0;
    for (int i = 0; i < 8; ++i)
        bits = bits << 8 | fuzz_byte(in);
    return bits;
}

/* Any double, and many of those that people write. */
static double pick_double(fuzz_input *in) {
    const uint64_t bits = pick_bits(in);
    const uint32_t how = fuzz_byte(in);
    double number;
    memcpy(&number, &bits, sizeof number);
    if (how % 4 == 1) number = (double)(int64_t)bits;
    if (how % 4 == 2) number = (double)(int32_t)bits / 1000;
    if (how % 4 == 3) number = (double)(int64_t)(bits % 4000000000000000) * (how & 4 ? -1 : 1);
    return number;
}

/* >>what a line must be */

static void check_name(const char *name, const cJSON *item) {
    const size_t size = strlen(name);
    const bool valid = strstr(item->valuestring, "\xEF\xBF\xBD") == NULL;
    char fixed[256];
    for (size_t most = size < 47 ? size : 47; size < 48 || most > 43; --most) {
        fuzz_repair(fixed, name, most);
        if (strcmp(fixed, item->valuestring) == 0) break;
        CHECK(size > 47 && most > 44); /* at most 47 bytes, cut at a character */
    }
    fuzz_repair(fixed, name, size);
    CHECK(valid || strstr(fixed, "\xEF\xBF\xBD") != NULL); /* a cut breaks no character */
}

static void check_time(int64_t wall_ns, const char *text) {
    const int64_t us = wall_ns / 1000 - (wall_ns % 1000 < 0);
    const time_t seconds = (time_t)(us / 1000000 - (us % 1000000 < 0));
    char expected[64], whole[32];
    struct tm parts;
    CHECK(gmtime_r(&seconds, &parts) != NULL);
    strftime(whole, sizeof whole, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(expected, sizeof expected, "%s.%06dZ", whole, (int)(us - (int64_t)seconds * 1000000));
    CHECK(strcmp(expected, text) == 0);
}

static void check_pair(const rm_kv *kv, const cJSON *item) {
    char fixed[64];
    fuzz_repair(fixed, kv->key, strlen(kv->key));
    CHECK(strcmp(fixed, item->string) == 0);
    if (kv->type == RM_KV_STRING && kv->string != NULL) {
        fuzz_repair(fixed, kv->string, strlen(kv->string));
        CHECK(cJSON_IsString(item) && strcmp(fixed, item->valuestring) == 0);
    } else if (kv->type == RM_KV_INT) {
        CHECK(cJSON_IsNumber(item) && item->valuedouble == (double)kv->integer);
    } else if (kv->type == RM_KV_DOUBLE && kv->number - kv->number == 0) {
        CHECK(cJSON_IsNumber(item) && item->valuedouble == kv->number);
    } else if (kv->type == RM_KV_BOOL) {
        CHECK(kv->integer != 0 ? cJSON_IsTrue(item) : cJSON_IsFalse(item));
    } else {
        CHECK(cJSON_IsNull(item));
    }
}

/* A line that has `count` of the event's pairs. */
static void check_line(const world *w, const char *line, size_t size, size_t count, bool is_cut) {
    const cJSON *item;
    cJSON *object;
    for (size_t i = 0, length; i < size; i += length) {
        length = fuzz_character((const unsigned char *)line + i, size - i);
        CHECK(length > 0 && ((unsigned char)line[i] >= 0x20) == (i + 1 < size));
    }
    CHECK(size > 0 && line[size - 1] == '\n');
    object = cJSON_ParseWithLength(line, size);
    CHECK(object != NULL && cJSON_IsObject(object));
    item = object->child;
    CHECK(strcmp(item->string, "time") == 0);
    check_time(w->event.wall_ns, item->valuestring);
    item = item->next;
    CHECK(strcmp(item->string, "level") == 0);
    CHECK(strcmp(item->valuestring, rm_log_level_name(w->event.level)) == 0);
    item = item->next;
    CHECK(strcmp(item->string, "component") == 0);
    check_name(w->component, item);
    item = item->next;
    CHECK(strcmp(item->string, "event") == 0);
    check_name(w->name, item);
    for (size_t i = 0; i < count; ++i) {
        if (w->pairs[i].key == NULL) continue;
        item = item->next;
        CHECK(item != NULL);
        check_pair(&w->pairs[i], item);
    }
    item = item->next;
    CHECK((item != NULL) == is_cut);
    if (is_cut)
        CHECK(strcmp(item->string, "truncated") == 0 && cJSON_IsTrue(item) && item->next == NULL);
    cJSON_Delete(object);
}

/* >>events */

/* Any time, or one next to 1 March of a year that ends a century. */
static int64_t pick_time(fuzz_input *in) {
    const int64_t day = RM_SEC(86400), any = (int64_t)pick_bits(in);
    const int64_t march = FUZZ_CHOOSE(in, 0, -98556, -62032, -25508, 11017, 47541, 84065);
    return march == 0 ? any : march * day + any % (2 * day);
}

/* Any bytes, few or many; or many characters of one to four bytes. */
static void pick_name(fuzz_input *in, char *to) {
    static const char *const characters[] = {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    const uint32_t how = fuzz_below(in, 3);
    if (how < 2) fuzz_string(in, to, how == 1 ? 80 : 6);
    for (int i = 0; how == 2 && i < 19; ++i)
        strcat(to, characters[fuzz_below(in, 4)]);
}

static void pick_event(world *w) {
    pick_name(w->in, w->component);
    pick_name(w->in, w->name);
    w->event.wall_ns = pick_time(w->in);
    w->event.component = w->component;
    w->event.event = w->name;
    w->event.level = (rm_log_level)fuzz_below(w->in, 7);
    w->event.values = w->pairs;
    w->event.count = fuzz_below(w->in, PAIRS + 1);
    for (size_t i = 0; i < w->event.count; ++i) {
        const uint32_t byte = fuzz_byte(w->in);
        rm_kv *kv = &w->pairs[i];
        fuzz_string(w->in, w->keys[i], 12);
        fuzz_string(w->in, w->strings[i], 16);
        memset(kv, 0, sizeof *kv);
        switch (byte % 4) {
        case 0: *kv = rm_kv_string(w->keys[i], byte > 240 ? NULL : w->strings[i]); break;
        case 1: *kv = rm_kv_int(w->keys[i], (int64_t)pick_bits(w->in)); break;
        case 2: *kv = rm_kv_double(w->keys[i], pick_double(w->in)); break;
        default: *kv = rm_kv_bool(w->keys[i], byte > 128); break;
        }
        if (byte % 16 == 9) kv->key = NULL; /* is left out */
        if (byte % 16 == 15) kv->type = (rm_kv_type)4;
    }
}

/* The same event for a buffer of any size. */
static void check_small(world *w, const char *whole, const size_t *ends, size_t size) {
    char *buffer = (char *)malloc(size + 1); /* exact: a byte more is found */
    size_t used, fits = 0;
    CHECK(buffer != NULL);
    used = rm_log_format(&w->event, buffer, size);
    if (size < sizeof cut - 1 || ends[0] > size - (sizeof cut - 1)) {
        CHECK_EQ(0, used);
    } else {
        const size_t room = size - (sizeof cut - 1);
        while (fits < w->event.count && ends[fits + 1] <= room)
            ++fits;
        CHECK(memcmp(buffer, whole, ends[fits]) == 0);
        if (ends[w->event.count] > room) {
            CHECK_EQ(ends[fits] + sizeof cut - 1, used);
            CHECK(memcmp(buffer + ends[fits], cut, sizeof cut - 1) == 0);
        } else {
            CHECK_EQ(ends[fits] + 2, used);
        }
        check_line(w, buffer, used, fits, ends[w->event.count] > room);
    }
    free(buffer);
}

/* What a stream gets: the line, if its level asks for it. */
static void check_stream(world *w) {
    static char line[2048];
    const rm_log_level lowest = (rm_log_level)fuzz_below(w->in, 7);
    const rm_log_level wanted = lowest == RM_LOG_DEFAULT ? RM_LOG_INFO : lowest;
    const size_t size = rm_log_format(&w->event, line, sizeof line);
    const bool written = w->event.level >= wanted && w->event.level < RM_LOG_OFF;
    rm_log_stream last = {NULL, NULL, lowest}, first = {NULL, &last, RM_LOG_OFF};
    char *memory = NULL;
    size_t got = 0;
    FILE *stream = open_memstream(&memory, &got);
    CHECK(stream != NULL);
    last.stream = first.stream = stream;
    rm_log_to_stream(&w->event, &first);
    CHECK(fclose(stream) == 0);
    CHECK_EQ(written ? size : 0, got);
    CHECK(got == 0 || memcmp(line, memory, got) == 0);
    free(memory);
}

static void do_event(fuzz_input *in) {
    static char whole[LINE];
    size_t ends[PAIRS + 1];
    world w;
    memset(&w, 0, sizeof w);
    w.in = in;
    pick_event(&w);
    for (size_t i = 0, count = w.event.count; i <= count; ++i) {
        size_t size;
        w.event.count = i; /* i goes up to count: the last one is the whole line */
        size = rm_log_format(&w.event, whole, sizeof whole);
        check_line(&w, whole, size, i, false);
        ends[i] = size - 2;
    }
    for (int i = 0; i < 4; ++i)
        check_small(&w, whole, ends, fuzz_byte(in) * (i < 3 ? 2u : 1u));
    check_small(&w, whole, ends, ends[w.event.count] + sizeof cut - 1 - fuzz_below(in, 3));
    check_stream(&w);
}

/* >>numbers and strings as text */

typedef struct sink {
    char data[512];
    size_t size;
} sink;

static bool flush_fn(const char *data, size_t size, void *user) {
    sink *to = (sink *)user;
    CHECK(to->size + size < sizeof to->data);
    memcpy(to->data + to->size, data, size);
    to->size += size;
    return true;
}

static rm_text through(char *buffer, size_t size, sink *to) {
    rm_text text = rm_text_make(buffer, size);
    memset(to, 0, sizeof *to);
    text.flush_fn = flush_fn;
    text.user = to;
    return text;
}

/* The digits that count, without zeros at either end. */
static int digits_of(const char *text) {
    int digits = 0, zeros = 0;
    for (; *text != '\0' && *text != 'e'; ++text) {
        if (*text < '0' || *text > '9') continue;
        zeros = *text == '0' ? zeros + 1 : 0;
        if (digits > 0 || *text != '0') ++digits;
    }
    return digits - (digits > 0 ? zeros : 0);
}

static void do_double(fuzz_input *in) {
    const double number = pick_double(in);
    char buffer[8], least[64];
    sink to;
    rm_text text = through(buffer, 1 + fuzz_below(in, 8), &to);
    char *end;
    rm_text_double(&text, number);
    CHECK(rm_text_flush(&text));
    CHECK(to.data[0] != '\0' && strpbrk(to.data, " ,") == NULL);
    if (number != number) CHECK(strcmp(to.data, "NaN") == 0);
    if (number != number) return;
    CHECK(strtod(to.data, &end) == number && *end == '\0');
    CHECK((to.data[0] == '-') == (number < 0 || (number == 0 && 1 / number < 0)));
    if (number - number != 0) return;
    for (int precision = 1; precision <= 17; ++precision) {
        snprintf(least, sizeof least, "%.*g", precision, number);
        if (strtod(least, NULL) == number) break;
    }
    CHECK(digits_of(to.data) <= digits_of(least) + 1); /* one more for some powers of two */
}

static void do_integers(fuzz_input *in) {
    const int64_t value = fuzz_below(in, 2) ? (int64_t)pick_bits(in)
                                            : FUZZ_CHOOSE(in, 0, 1, -1, INT64_MIN, INT64_MAX, 1500);
    const uint32_t decimals = fuzz_below(in, 21), used = decimals > 18 ? 18 : decimals;
    char buffer[8], expected[160], part[64];
    sink to;
    rm_text text = through(buffer, 1 + fuzz_below(in, 8), &to);
    rm_text_int(&text, value);
    rm_text_string(&text, " ");
    rm_text_uint(&text, (uint64_t)value);
    rm_text_string(&text, " ");
    rm_text_decimal(&text, value, decimals);
    fuzz_decimal(part, value < 0 ? 0u - (uint64_t)value : (uint64_t)value, used);
    snprintf(expected, sizeof expected, "%" PRId64 " %" PRIu64 " %s%s", value, (uint64_t)value,
             value < 0 ? "-" : "", part);
    CHECK(rm_text_flush(&text) && strcmp(expected, to.data) == 0);
}

/* Any bytes, NUL too, as a JSON string. */
static void do_string(fuzz_input *in) {
    const size_t size = fuzz_below(in, 40);
    char bytes[40], fixed[128], buffer[8];
    sink to;
    rm_text text = through(buffer, 1 + fuzz_below(in, 8), &to);
    cJSON *string;
    for (size_t i = 0; i < size; ++i)
        bytes[i] = (char)fuzz_byte(in);
    rm_text_json(&text, bytes, size);
    CHECK(rm_text_flush(&text));
    for (size_t i = 0; i < to.size; ++i)
        CHECK((unsigned char)to.data[i] >= 0x20 && to.data[i] != 0x7F);
    if (memchr(bytes, '\0', size) != NULL) return; /* a C string cannot hold that */
    string = cJSON_ParseWithOpts(to.data, NULL, 1);
    fuzz_repair(fixed, bytes, size);
    CHECK(cJSON_IsString(string) && strcmp(string->valuestring, fixed) == 0);
    cJSON_Delete(string);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_input in = {data, data + size};
    if (size > LONGEST) return 0;
    while (fuzz_more(&in)) {
        switch (fuzz_below(&in, 4)) {
        case 0: do_double(&in); break;
        case 1: do_integers(&in); break;
        case 2: do_string(&in); break;
        default: do_event(&in); break;
        }
    }
    return 0;
}
