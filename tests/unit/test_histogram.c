/* The base: log-linear histograms. */
#include "rm.h"
#include "rm_test.h"

#include <stdlib.h>

enum { BINS = 3000, VALUES = 4000 };
static uint64_t memory[BINS], more_memory[BINS];
static int64_t values[VALUES];

static rm_hist_desc shape(uint32_t first, uint32_t last, uint32_t per_decade) {
    rm_hist_desc desc;
    desc.first_decade = first;
    desc.last_decade = last;
    desc.per_decade = per_decade;
    return desc;
}

/* Runs check(hist, desc) on an empty histogram of every shape there is. */
static void each_shape(void (*check)(rm_hist *hist, const rm_hist_desc *desc)) {
    static const uint32_t resolutions[] = {16, 32, 80, 160};
    for (uint32_t first = 0; first < 18; ++first)
        for (uint32_t last = first + 1; last <= 18; ++last)
            for (int i = 0; i < 4; ++i) {
                const rm_hist_desc desc = shape(first, last, resolutions[i]);
                rm_hist hist;
                REQUIRE(rm_hist_init(&hist, &desc, memory, sizeof memory) == RM_OK);
                check(&hist, &desc);
            }
}

static uint32_t bins_of(const rm_hist_desc *desc) {
    return (uint32_t)(rm_hist_footprint(desc) / 8);
}

static int64_t power_of_ten(uint32_t n) {
    int64_t power = 1;
    for (; n > 0; --n)
        power *= 10;
    return power;
}

/* >>shape --------------------------------------------------------------------------------- */

static void check_edges(rm_hist *hist, const rm_hist_desc *desc) {
    const uint32_t bins = bins_of(desc);
    int64_t round = power_of_ten(desc->first_decade);
    int step = 0;
    CHECK_EQ(rm_hist_bin_edge(hist, 0), 0);
    for (uint32_t i = 1; i < bins; ++i) {
        const int64_t before = rm_hist_bin_edge(hist, i - 1), edge = rm_hist_bin_edge(hist, i);
        CHECK(edge > before);
        CHECK(i == bins - 1 || edge <= power_of_ten(desc->last_decade));
        if (edge == round && i < bins - 1) { /* 1, 2, 5, 10, 20, 50 ... are all edges */
            round = step == 1 ? round / 2 * 5 : round * 2;
            step = (step + 1) % 3;
        }
    }
    CHECK(round / 2 == power_of_ten(desc->last_decade));
    CHECK_EQ(rm_hist_bin_edge(hist, bins - 2), power_of_ten(desc->last_decade));
    CHECK_EQ(rm_hist_bin_edge(hist, bins - 1), INT64_MAX);
    CHECK_EQ(rm_hist_bin_edge(hist, bins), INT64_MAX);
    CHECK_EQ(rm_hist_bin_edge(hist, UINT32_MAX), INT64_MAX);
}

TEST(histogram, edges_ascend_through_1_2_5_to_the_last_decade) {
    each_shape(check_edges);
}

static void check_mapping(rm_hist *hist, const rm_hist_desc *desc) {
    const uint32_t bins = bins_of(desc);
    for (uint32_t i = 0; i < bins - 1; ++i) {
        const int64_t edge = rm_hist_bin_edge(hist, i);
        CHECK_EQ(rm_hist_record(hist, edge), RM_OK);     /* the last of its bin */
        CHECK_EQ(rm_hist_record(hist, edge + 1), RM_OK); /* the first of the next */
    }
    for (uint32_t i = 0; i < bins; ++i)
        CHECK_EQ(hist->counts[i], i == 0 || i == bins - 1 ? 1 : 2);
}

TEST(histogram, puts_an_edge_into_its_own_bin_and_the_next_number_into_the_next) {
    each_shape(check_mapping);
}

static void check_extremes(rm_hist *hist, const rm_hist_desc *desc) {
    CHECK_EQ(rm_hist_record(hist, INT64_MAX), RM_OK);
    CHECK_EQ(hist->counts[bins_of(desc) - 1], 1);
    CHECK_EQ(rm_hist_record(hist, 0), RM_OK);
    CHECK_EQ(hist->counts[0], 1);
    CHECK_EQ(rm_hist_record(hist, 1), RM_OK);
    CHECK_EQ(hist->counts[1], 1);
    CHECK_EQ(rm_hist_record(hist, -1), RM_E_INVALID);
    CHECK_EQ(rm_hist_record(hist, INT64_MIN), RM_E_INVALID);
    CHECK_EQ(hist->count, 3);
    CHECK_EQ(hist->refused, 2);
    CHECK_EQ(hist->min, 0);
    CHECK_EQ(hist->max, INT64_MAX);
    CHECK_EQ(hist->sum, INT64_MAX); /* stays at the end */
}

TEST(histogram, takes_any_number_that_is_not_negative) {
    each_shape(check_extremes);
}

/* Per mille of a number. */
static int64_t share(int64_t number, int64_t per_mille) {
    return number / 1000 * per_mille + number % 1000 * per_mille / 1000;
}

static void check_error(rm_hist *hist, const rm_hist_desc *desc) {
    const int64_t limit = 4000 / desc->per_decade; /* 25, 12.5, 5 or 2.5 % */
    const int64_t linear = power_of_ten(desc->first_decade);
    for (uint32_t i = 1; i < bins_of(desc) - 1; ++i) {
        const int64_t low = rm_hist_bin_edge(hist, i - 1), high = rm_hist_bin_edge(hist, i);
        CHECK(high - low == 1 || high - low <= share(low < linear ? linear : low, limit));
    }
}

TEST(histogram, bins_are_no_wider_than_stated) {
    each_shape(check_error);
}

TEST(histogram, takes_little_memory) {
    rm_hist_desc desc = shape(3, 10, 16); /* waits: 1 us to 10 s */
    CHECK(rm_hist_footprint(&desc) > 0 && rm_hist_footprint(&desc) < 1024);
    desc = shape(0, 18, 160);
    CHECK(rm_hist_footprint(&desc) <= sizeof memory);
    for (uint32_t last = 4; last <= 18; ++last) {
        const rm_hist_desc shorter = shape(2, last - 1, 32);
        desc = shape(2, last, 32);
        CHECK_EQ(rm_hist_footprint(&desc) - rm_hist_footprint(&shorter), 8 * 32);
    }
}

TEST(histogram, has_defaults) {
    const rm_hist_desc zero = shape(0, 0, 0), same = shape(0, 9, 16);
    rm_hist hist;
    CHECK_EQ(rm_hist_footprint(&zero), rm_hist_footprint(&same));
    REQUIRE(rm_hist_init(&hist, &zero, memory, rm_hist_footprint(&zero)) == RM_OK);
    check_edges(&hist, &same);
}

TEST(histogram, refuses_a_shape_that_is_none) {
    static const uint32_t bad[][3] = {
        {0, 19, 16},        {9, 0, 16},         {18, 18, 16},
        {5, 5, 16},         {6, 5, 16},         {0, 9, 1},
        {0, 9, 15},         {0, 9, 17},         {0, 9, 48},
        {0, 9, 161},        {19, 20, 0},        {0, 9, 1u << 31},
        {0, UINT32_MAX, 0}, {UINT32_MAX, 0, 0}, {UINT32_MAX - 1, UINT32_MAX, 16}};
    rm_hist hist;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
        const rm_hist_desc desc = shape(bad[i][0], bad[i][1], bad[i][2]);
        CHECK_EQ(rm_hist_footprint(&desc), 0);
        CHECK_EQ(rm_hist_init(&hist, &desc, memory, sizeof memory), RM_E_INVALID);
    }
}

TEST(histogram, refuses_memory_that_does_not_do) {
    const rm_hist_desc desc = shape(0, 9, 16);
    const size_t size = rm_hist_footprint(&desc);
    rm_hist hist;
    CHECK_EQ(rm_hist_init(&hist, &desc, memory, size - 1), RM_E_TOO_LARGE);
    CHECK_EQ(rm_hist_init(&hist, &desc, memory, 0), RM_E_TOO_LARGE);
    CHECK_EQ(rm_hist_init(&hist, &desc, (char *)memory + 4, sizeof memory - 8), RM_E_INVALID);
    CHECK_EQ(rm_hist_init(&hist, &desc, NULL, size), RM_E_INVALID);
    CHECK_EQ(rm_hist_init(NULL, &desc, memory, size), RM_E_INVALID);
    CHECK_EQ(rm_hist_init(&hist, &desc, memory, size), RM_OK);
}

TEST(histogram, without_a_desc_has_the_defaults) {
    const rm_hist_desc desc = shape(0, 9, 16);
    rm_hist hist, standard;
    const size_t size = rm_hist_footprint(NULL);
    CHECK_EQ(size, rm_hist_footprint(&desc));
    REQUIRE(rm_hist_init(&hist, NULL, memory, size) == RM_OK);
    REQUIRE(rm_hist_init(&standard, &desc, memory, size) == RM_OK);
    CHECK_EQ(hist.bins, standard.bins);
    CHECK_EQ(rm_hist_bin_edge(&hist, hist.bins - 2), 1000000000);
}

TEST(histogram, stays_within_its_memory) {
    const rm_hist_desc desc = shape(2, 6, 32);
    const size_t size = rm_hist_footprint(&desc);
    uint64_t *exact = (uint64_t *)malloc(size);
    rm_rng rng;
    rm_hist hist;
    REQUIRE(exact != NULL);
    memset(exact, 0xAA, size);
    REQUIRE(rm_hist_init(&hist, &desc, exact, size) == RM_OK);
    rm_rng_seed(&rng, 8);
    for (int i = 0; i < 10000; ++i)
        CHECK_EQ(rm_hist_record(&hist, (int64_t)(rm_rng_next(&rng) >> (1 + i % 63))), RM_OK);
    (void)rm_hist_quantile(&hist, 1);
    CHECK_EQ(rm_hist_count_le(&hist, INT64_MAX), 10000);
    CHECK_EQ(rm_hist_merge(&hist, &hist), RM_OK);
    CHECK_EQ(hist.count, 20000);
    rm_hist_reset(&hist);
    free(exact);
}

/* >>queries ------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Fills a histogram and `values`, sorted, with numbers of a kind. */
static void fill(rm_hist *hist, const rm_hist_desc *desc, int kind, uint64_t seed) {
    rm_rng rng;
    rm_rng_seed(&rng, seed);
    REQUIRE(rm_hist_init(hist, desc, memory, sizeof memory) == RM_OK);
    for (int i = 0; i < VALUES; ++i) {
        const uint64_t number = rm_rng_next(&rng);
        values[i] = kind == 0   ? (int64_t)(number >> (1 + i % 63)) /* all sizes */
                    : kind == 1 ? (int64_t)(number % 1000)          /* small */
                    : kind == 2 ? 12345                             /* all the same */
                    : kind == 3 ? (number % 10 == 0 ? 1000000 : 50) /* two peaks */
                                : rm_hist_bin_edge(hist, (uint32_t)(number % (bins_of(desc) - 1)));
        CHECK_EQ(rm_hist_record(hist, values[i]), RM_OK);
    }
    qsort(values, VALUES, sizeof *values, ascending);
}

/* How many of the sorted values are <= bound. */
static uint64_t sorted_count_le(int64_t bound) {
    uint64_t from = 0, to = VALUES;
    while (from < to) {
        const uint64_t middle = (from + to) / 2;
        if (values[middle] <= bound)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static void check_count_le(const rm_hist_desc *desc, int kind) {
    rm_hist hist;
    fill(&hist, desc, kind, 11);
    for (uint32_t i = 0; i < bins_of(desc); ++i) {
        const int64_t edge = rm_hist_bin_edge(&hist, i);
        CHECK_EQ(rm_hist_count_le(&hist, edge), sorted_count_le(edge));
        if (i > 0 && edge - 1 < values[VALUES - 1]) { /* inside a bin: the whole bins below */
            const int64_t below = rm_hist_bin_edge(&hist, i - 1);
            CHECK_EQ(rm_hist_count_le(&hist, edge - 1), sorted_count_le(below));
        }
    }
    CHECK_EQ(rm_hist_count_le(&hist, values[VALUES - 1]), VALUES);
    CHECK_EQ(rm_hist_count_le(&hist, INT64_MAX), VALUES);
    CHECK_EQ(rm_hist_count_le(&hist, -1), 0);
    CHECK_EQ(rm_hist_count_le(&hist, INT64_MIN), 0);
}

TEST(histogram, counts_exactly_up_to_every_edge) {
    const rm_hist_desc coarse = shape(0, 9, 16), waits = shape(3, 10, 16), fine = shape(0, 5, 160);
    for (int kind = 0; kind < 5; ++kind) {
        check_count_le(&coarse, kind);
        check_count_le(&waits, kind);
        check_count_le(&fine, kind);
    }
}

/* The bounds of the bin that holds a value: (low, high]. */
static void bin_around(const rm_hist *hist, const rm_hist_desc *desc, int64_t value, int64_t *low,
                       int64_t *high) {
    uint32_t bin = 0;
    while (bin < bins_of(desc) - 1 && rm_hist_bin_edge(hist, bin) < value)
        ++bin;
    *low = bin == 0 ? 0 : rm_hist_bin_edge(hist, bin - 1);
    *high = rm_hist_bin_edge(hist, bin);
}

static void check_quantiles(const rm_hist_desc *desc, int kind) {
    int64_t before = 0, low, high;
    rm_hist hist;
    fill(&hist, desc, kind, 12);
    for (int i = 0; i <= 1000; i += i < 990 ? 10 : 1) {
        const double q = i / 1000.0, rank = q * VALUES;
        const int64_t got = rm_hist_quantile(&hist, q);
        int64_t expected;
        int k = (int)rank;
        if (k < rank) ++k;
        expected = values[k == 0 ? 0 : k - 1]; /* the first that has a share q at or below it */
        bin_around(&hist, desc, expected, &low, &high);
        CHECK(got >= low && got <= high);
        CHECK(got >= values[0] && got <= values[VALUES - 1]);
        CHECK(got >= before);
        before = got;
    }
    CHECK_EQ(rm_hist_quantile(&hist, 0), values[0]);
    CHECK_EQ(rm_hist_quantile(&hist, 1), values[VALUES - 1]);
    CHECK_EQ(rm_hist_quantile(&hist, -3), values[0]);
    CHECK_EQ(rm_hist_quantile(&hist, 7), values[VALUES - 1]);
}

TEST(histogram, quantiles_lie_in_the_bin_of_the_sorted_value) {
    const rm_hist_desc coarse = shape(0, 9, 16), waits = shape(3, 10, 16), fine = shape(0, 18, 160);
    for (int kind = 0; kind < 5; ++kind) {
        check_quantiles(&coarse, kind);
        check_quantiles(&waits, kind);
        check_quantiles(&fine, kind);
    }
}

TEST(histogram, quantile_of_nothing_is_zero) {
    const rm_hist_desc desc = shape(0, 9, 16);
    const volatile double zero = 0;
    rm_hist hist;
    REQUIRE(rm_hist_init(&hist, &desc, memory, sizeof memory) == RM_OK);
    CHECK_EQ(rm_hist_quantile(&hist, 0.5), 0);
    CHECK_EQ(rm_hist_quantile(NULL, 0.5), 0);
    CHECK_EQ(rm_hist_count_le(&hist, 100), 0);
    CHECK_EQ(rm_hist_count_le(NULL, 100), 0);
    CHECK_EQ(rm_hist_record(&hist, 7), RM_OK);
    CHECK_EQ(rm_hist_quantile(&hist, zero / zero), 0);
    CHECK_EQ(rm_hist_quantile(&hist, 1 / zero), 7);
    CHECK_EQ(rm_hist_quantile(&hist, -1 / zero), 7);
}

TEST(histogram, quantile_interpolates_inside_a_bin) {
    const rm_hist_desc desc = shape(0, 9, 16);
    rm_hist hist;
    REQUIRE(rm_hist_init(&hist, &desc, memory, sizeof memory) == RM_OK);
    for (int64_t value = 100001; value <= 120000; ++value) /* one bin, evenly filled */
        CHECK_EQ(rm_hist_record(&hist, value), RM_OK);
    CHECK_EQ(rm_hist_quantile(&hist, 0.25), 105000);
    CHECK_EQ(rm_hist_quantile(&hist, 0.5), 110000);
    CHECK_EQ(rm_hist_quantile(&hist, 0.99), 119800);
}

TEST(histogram, quantile_keeps_to_numbers_no_double_can_hold) {
    const rm_hist_desc desc = shape(0, 9, 16);
    rm_hist hist;
    REQUIRE(rm_hist_init(&hist, &desc, memory, sizeof memory) == RM_OK);
    CHECK_EQ(rm_hist_record(&hist, INT64_MAX - 1), RM_OK);
    CHECK_EQ(rm_hist_quantile(&hist, 0.5), INT64_MAX - 1);
    CHECK_EQ(rm_hist_record(&hist, INT64_MAX), RM_OK);
    for (int i = 0; i <= 10; ++i)
        CHECK(rm_hist_quantile(&hist, i / 10.0) >= INT64_MAX - 1);
}

/* >>merge and reset ----------------------------------------------------------------------- */

TEST(histogram, merged_is_as_if_all_had_been_recorded_in_one) {
    const rm_hist_desc desc = shape(2, 8, 32);
    static uint64_t both_memory[BINS];
    rm_hist a, b, both;
    rm_rng rng;
    REQUIRE(rm_hist_init(&a, &desc, memory, sizeof memory) == RM_OK);
    REQUIRE(rm_hist_init(&b, &desc, more_memory, sizeof more_memory) == RM_OK);
    REQUIRE(rm_hist_init(&both, &desc, both_memory, sizeof both_memory) == RM_OK);
    rm_rng_seed(&rng, 14);
    CHECK_EQ(rm_hist_merge(&a, &b), RM_OK); /* nothing into nothing */
    CHECK_EQ(rm_hist_record(&a, 5), RM_OK);
    CHECK_EQ(rm_hist_merge(&a, &b), RM_OK); /* nothing into something */
    CHECK(a.min == 5 && a.max == 5 && a.count == 1);
    CHECK_EQ(rm_hist_record(&both, 5), RM_OK);
    for (int i = 0; i < 10000; ++i) {
        const int64_t value = (int64_t)(rm_rng_next(&rng) >> (20 + i % 44)) - 100;
        CHECK_EQ(rm_hist_record(i % 3 == 0 ? &a : &b, value), rm_hist_record(&both, value));
    }
    CHECK_EQ(rm_hist_merge(&a, &b), RM_OK);
    CHECK(memcmp(memory, both_memory, rm_hist_footprint(&desc)) == 0);
    CHECK(a.count == both.count && a.refused == both.refused && a.refused > 0);
    CHECK(a.sum == both.sum && a.min == both.min && a.max == both.max);
    for (int i = 0; i <= 100; ++i)
        CHECK_EQ(rm_hist_quantile(&a, i / 100.0), rm_hist_quantile(&both, i / 100.0));
}

TEST(histogram, merged_has_the_extremes_of_both) {
    static const int64_t low[] = {3, 50, 3}, high[] = {90, 40, 40}; /* a within b, and across */
    const rm_hist_desc desc = shape(0, 9, 16);
    for (int i = 0; i < 3; ++i)
        for (int swap = 0; swap < 2; ++swap) {
            rm_hist a, b;
            REQUIRE(rm_hist_init(&a, &desc, memory, sizeof memory) == RM_OK);
            REQUIRE(rm_hist_init(&b, &desc, more_memory, sizeof more_memory) == RM_OK);
            CHECK_EQ(rm_hist_record(swap ? &a : &b, low[i]), RM_OK);
            CHECK_EQ(rm_hist_record(swap ? &a : &b, high[i]), RM_OK);
            CHECK_EQ(rm_hist_record(swap ? &b : &a, 45), RM_OK);
            CHECK_EQ(rm_hist_merge(&a, &b), RM_OK);
            CHECK_EQ(a.min, low[i] < 45 ? low[i] : high[i] < 45 ? high[i] : 45);
            CHECK_EQ(a.max, high[i] > 45 ? high[i] : low[i] > 45 ? low[i] : 45);
        }
}

TEST(histogram, merges_only_its_like) {
    const rm_hist_desc base = shape(2, 8, 32);
    const rm_hist_desc others[] = {shape(3, 8, 32), shape(2, 7, 32), shape(2, 8, 16)};
    rm_hist a, b;
    REQUIRE(rm_hist_init(&a, &base, memory, sizeof memory) == RM_OK);
    for (int i = 0; i < 3; ++i) {
        REQUIRE(rm_hist_init(&b, &others[i], more_memory, sizeof more_memory) == RM_OK);
        CHECK_EQ(rm_hist_record(&b, 100), RM_OK);
        CHECK_EQ(rm_hist_merge(&a, &b), RM_E_INVALID);
        CHECK_EQ(a.count, 0);
    }
    CHECK_EQ(rm_hist_merge(&a, NULL), RM_E_INVALID);
    CHECK_EQ(rm_hist_merge(NULL, &b), RM_E_INVALID);
}

TEST(histogram, sum_stays_at_the_end_when_merged) {
    const rm_hist_desc desc = shape(0, 9, 16);
    rm_hist a, b;
    REQUIRE(rm_hist_init(&a, &desc, memory, sizeof memory) == RM_OK);
    REQUIRE(rm_hist_init(&b, &desc, more_memory, sizeof more_memory) == RM_OK);
    CHECK_EQ(rm_hist_record(&a, INT64_MAX - 5), RM_OK);
    CHECK_EQ(rm_hist_record(&b, 6), RM_OK);
    CHECK_EQ(rm_hist_merge(&a, &b), RM_OK);
    CHECK_EQ(a.sum, INT64_MAX);
}

TEST(histogram, forgets_everything) {
    const rm_hist_desc desc = shape(0, 9, 16);
    rm_hist hist, empty;
    REQUIRE(rm_hist_init(&empty, &desc, memory, sizeof memory) == RM_OK);
    fill(&hist, &desc, 0, 15);
    (void)rm_hist_record(&hist, -1);
    rm_hist_reset(&hist);
    CHECK(hist.count == 0 && hist.refused == 0 && hist.sum == 0 && hist.max == 0);
    CHECK_EQ(hist.min, empty.min);
    for (uint32_t i = 0; i < bins_of(&desc); ++i)
        CHECK_EQ(memory[i], 0);
    CHECK_EQ(rm_hist_record(&hist, 9), RM_OK);
    CHECK(hist.min == 9 && hist.max == 9 && hist.sum == 9);
}

TEST(histogram, survives_null) {
    CHECK_EQ(rm_hist_record(NULL, 1), RM_E_INVALID);
    CHECK_EQ(rm_hist_bin_edge(NULL, 0), INT64_MAX);
    rm_hist_reset(NULL);
}

TEST(histogram, survives_being_zeroed_instead_of_made) {
    rm_hist zeroed;
    memset(&zeroed, 0, sizeof zeroed);
    CHECK_EQ(rm_hist_record(&zeroed, 5), RM_E_INVALID);
    CHECK_EQ(rm_hist_bin_edge(&zeroed, 1), INT64_MAX);
    CHECK_EQ(rm_hist_quantile(&zeroed, 0.5), 0);
    CHECK_EQ(rm_hist_count_le(&zeroed, 5), 0);
    CHECK_EQ(rm_hist_merge(&zeroed, &zeroed), RM_OK);
    rm_hist_reset(&zeroed);
}

TEST_MAIN
