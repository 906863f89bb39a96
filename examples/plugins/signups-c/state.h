// What is kept of sign-ups, and what is done to it. Knows neither the manifest nor how a report looks.
#pragma once

#include "plugin.h"

// The names that wit-bindgen makes of the contract's, without where they come from.
#define AGGREGATOR(name) exports_tally_aggregator_aggregator_##name
#define TYPE(name) tally_aggregator_types_##name##_t

typedef AGGREGATOR(accumulator_t) accumulator;

enum { REFERRERS = 256, USERS = 1024 };

// 2^64: no rank is higher.
#define HIGHEST 18446744073709551616.0

typedef struct {
    double rank;
    uint64_t signups;
    uint64_t paid;
    uint32_t length;
    uint8_t *text;
} referrer;

struct AGGREGATOR(accumulator_t) {
    uint64_t signups;
    uint64_t paid;
    uint64_t direct;
    uint32_t referrer_count;
    uint32_t user_count;
    // By rank and text. The last place is for one that is put in before one is dropped.
    referrer referrers[REFERRERS + 1];
    // Ascending.
    double users[USERS + 1];
};

// By rank, then by bytes: the order in which referrers are kept, saved, and listed where they are equal otherwise.
int by_rank(const referrer *a, const referrer *b);

// Memory that is there: where there is none, the plugin ends with a trap, which the host takes care of.
void *take(size_t bytes);
