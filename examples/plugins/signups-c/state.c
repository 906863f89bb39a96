// What is kept of sign-ups, and what is done to it. `malloc` is wasi-libc's, which asks the engine for memory and nobody for anything else.
//
// Lists and strings that come in belong to the plugin, which frees them; those that go out are freed by the bindings, so
// everything in them must be from `malloc`.

#include "state.h"

#include <stdlib.h>
#include <string.h>

static const int64_t MOST_PAID = 1000000000;

void *take(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory) abort();
    return memory;
}

int by_rank(const referrer *a, const referrer *b) {
    if (a->rank != b->rank) return a->rank < b->rank ? -1 : 1;
    int order = memcmp(a->text, b->text, a->length < b->length ? a->length : b->length);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

// Adds what was counted of a referrer, unless it ranks behind those that are kept.
static void count(accumulator *self, const referrer *more) {
    uint32_t low = 0, high = self->referrer_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        int order = by_rank(&self->referrers[middle], more);
        if (order == 0) {
            self->referrers[middle].signups += more->signups;
            self->referrers[middle].paid += more->paid;
            return;
        }
        if (order < 0) low = middle + 1; else high = middle;
    }
    if (low == REFERRERS) return;
    referrer *place = &self->referrers[low];
    memmove(place + 1, place, (self->referrer_count - low) * sizeof *place);
    *place = *more;
    place->text = take(more->length);
    memcpy(place->text, more->text, more->length);
    if (++self->referrer_count > REFERRERS) free(self->referrers[--self->referrer_count].text);
}

static void add_user(accumulator *self, double rank) {
    uint32_t low = 0, high = self->user_count;
    if (high == USERS && rank >= self->users[USERS - 1]) return;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (self->users[middle] == rank) return;
        if (self->users[middle] < rank) low = middle + 1; else high = middle;
    }
    memmove(&self->users[low + 1], &self->users[low], (self->user_count - low) * sizeof rank);
    self->users[low] = rank;
    if (self->user_count < USERS) self->user_count++;
}

AGGREGATOR(own_accumulator_t) AGGREGATOR(constructor_accumulator)(void) {
    accumulator *self = take(sizeof *self);
    memset(self, 0, sizeof *self);
    return AGGREGATOR(accumulator_new)(self);
}

static void discard(accumulator *self) {
    for (uint32_t i = 0; i < self->referrer_count; i++) free(self->referrers[i].text);
    free(self);
}

void AGGREGATOR(accumulator_destructor)(accumulator *self) {
    discard(self);
}

// Work that has to be done for each row is kept small: what can be done once for each entry of a dictionary is done after.
void AGGREGATOR(method_accumulator_apply)(accumulator *self, AGGREGATOR(batch_t) *batch, AGGREGATOR(list_refusal_t) *refused) {
    typedef struct { uint64_t signups, paid; } sums;
    size_t rows = batch->times.len;
    const tally_aggregator_columns_text_t *users = &batch->columns.ptr[0].values.val.text;
    const tally_aggregator_columns_text_t *texts = &batch->columns.ptr[1].values.val.text;
    const uint8_t *referred = batch->columns.ptr[1].present.len ? batch->columns.ptr[1].present.ptr : NULL;
    const int64_t *amounts = batch->columns.ptr[2].values.val.integers.ptr;
    const uint8_t *pays = batch->columns.ptr[2].present.len ? batch->columns.ptr[2].present.ptr : NULL;
    uint8_t *seen = take(users->ends.len);
    memset(seen, 0, users->ends.len);
    sums *of_text = take(texts->ends.len * sizeof *of_text);
    memset(of_text, 0, texts->ends.len * sizeof *of_text);
    refused->len = 0;
    refused->ptr = NULL;
    for (size_t row = 0; row < rows; row++) {
        int64_t amount = !pays || pays[row] ? amounts[row] : 0;
        if (amount < 0 || amount > MOST_PAID) {
            if (!refused->ptr) refused->ptr = take((rows - row) * sizeof *refused->ptr);
            refused->ptr[refused->len++] = (TYPE(refusal)) { .row = row, .reason = 0 };
            continue;
        }
        self->signups++;
        self->paid += amount;
        seen[users->codes.ptr[row]] = 1;
        if (!referred || referred[row]) {
            sums *sum = &of_text[texts->codes.ptr[row]];
            sum->signups++;
            sum->paid += amount;
        } else {
            self->direct++;
        }
    }
    for (uint32_t code = 0; code < texts->ends.len; code++) {
        if (!of_text[code].signups) continue;
        uint32_t start = code ? texts->ends.ptr[code - 1] : 0;
        referrer more = {
            .rank = (double) texts->hashes.ptr[code],
            .signups = of_text[code].signups,
            .paid = of_text[code].paid,
            .length = texts->ends.ptr[code] - start,
            .text = texts->bytes.ptr + start,
        };
        count(self, &more);
    }
    for (uint32_t code = 0; code < users->ends.len; code++) {
        if (seen[code]) add_user(self, (double) users->hashes.ptr[code]);
    }
    free(seen);
    free(of_text);
    AGGREGATOR(batch_free)(batch);
}

void AGGREGATOR(method_accumulator_merge)(accumulator *self, accumulator *later) {
    self->signups += later->signups;
    self->paid += later->paid;
    self->direct += later->direct;
    for (uint32_t i = 0; i < later->referrer_count; i++) count(self, &later->referrers[i]);
    for (uint32_t i = 0; i < later->user_count; i++) add_user(self, later->users[i]);
}

// WebAssembly is little-endian, as saved bytes are.
static uint8_t *put(uint8_t *at, const void *value, size_t size) {
    memcpy(at, value, size);
    return at + size;
}

void AGGREGATOR(method_accumulator_save)(accumulator *self, plugin_list_u8_t *saved) {
    size_t size = 3 * 8 + 4 + 4 + self->user_count * sizeof(double);
    for (uint32_t i = 0; i < self->referrer_count; i++) size += 28 + self->referrers[i].length;
    uint8_t *at = take(size);
    *saved = (plugin_list_u8_t) { .ptr = at, .len = size };
    at = put(at, &self->signups, 8);
    at = put(at, &self->paid, 8);
    at = put(at, &self->direct, 8);
    at = put(at, &self->referrer_count, 4);
    for (const referrer *each = self->referrers; each < self->referrers + self->referrer_count; each++) {
        at = put(at, &each->rank, 8);
        at = put(at, &each->signups, 8);
        at = put(at, &each->paid, 8);
        at = put(at, &each->length, 4);
        at = put(at, each->text, each->length);
    }
    at = put(at, &self->user_count, 4);
    put(at, self->users, self->user_count * sizeof(double));
}

// What is left of saved bytes.
typedef struct {
    const uint8_t *at;
    size_t left;
} reader;

static bool get(reader *from, void *value, size_t size) {
    if (from->left < size) return false;
    memcpy(value, from->at, size);
    from->at += size;
    from->left -= size;
    return true;
}

static bool get_rank(reader *from, double *rank) {
    return get(from, rank, 8) && *rank >= 0 && *rank <= HIGHEST && !__builtin_signbit(*rank);
}

// Takes nothing on trust; gives what is wrong, or nothing.
static const char *read_state(accumulator *self, reader *from) {
    uint32_t referrers, users;
    if (!get(from, &self->signups, 8) || !get(from, &self->paid, 8) || !get(from, &self->direct, 8) || !get(from, &referrers, 4)) {
        return "the saved state ends too early";
    }
    if (referrers > REFERRERS) return "more referrers than may be";
    uint64_t kept = self->direct;
    for (uint32_t i = 0; i < referrers; i++) {
        referrer *each = &self->referrers[i];
        if (!get_rank(from, &each->rank)) return "a rank is none";
        if (!get(from, &each->signups, 8) || !get(from, &each->paid, 8) || !get(from, &each->length, 4) || from->left < each->length) {
            return "the saved state ends too early";
        }
        each->text = take(each->length);
        self->referrer_count++;
        get(from, each->text, each->length);
        if (i > 0 && by_rank(each - 1, each) >= 0) return "its referrers are out of order";
        if (__builtin_add_overflow(kept, each->signups, &kept)) return "its parts are more than its total";
    }
    if (!get(from, &users, 4)) return "the saved state ends too early";
    if (users > USERS) return "more users than may be";
    for (; self->user_count < users; self->user_count++) {
        double *each = &self->users[self->user_count];
        if (!get_rank(from, each)) return "a rank is none";
        if (self->user_count > 0 && each[-1] >= *each) return "its users are out of order";
    }
    if (from->left > 0) return "bytes are left over";
    return kept > self->signups ? "its parts are more than its total" : NULL;
}

bool AGGREGATOR(static_accumulator_load)(
    plugin_string_t *version, plugin_list_u8_t *saved, AGGREGATOR(own_accumulator_t) *loaded, plugin_string_t *error
) {
    accumulator *self = take(sizeof *self);
    memset(self, 0, sizeof *self);
    reader from = { .at = saved->ptr, .left = saved->len };
    const char *problem = read_state(self, &from);
    plugin_string_free(version);
    plugin_list_u8_free(saved);
    if (problem) {
        discard(self);
        plugin_string_dup(error, problem);
        return false;
    }
    *loaded = AGGREGATOR(accumulator_new)(self);
    return true;
}
