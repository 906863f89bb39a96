// Sign-ups by referrer, in bounded memory: the twin of signups-rust, whose header says what is kept and why. Equal events give equal
// bytes and reports in both. This is what the plugin says of itself and what it reports; `state.c` is the rest.

#include "state.h"

#include <stdlib.h>
#include <string.h>

static const tally_aggregator_types_kind_t TEXT = { .tag = TALLY_AGGREGATOR_TYPES_KIND_TEXT };
static const tally_aggregator_types_kind_t INTEGER = { .tag = TALLY_AGGREGATOR_TYPES_KIND_INTEGER };
static const tally_aggregator_types_kind_t BOOLEAN = { .tag = TALLY_AGGREGATOR_TYPES_KIND_BOOLEAN };
static const tally_aggregator_types_kind_t PAID = { .tag = TALLY_AGGREGATOR_TYPES_KIND_DECIMAL, .val.decimal = 2 };

void AGGREGATOR(describe)(AGGREGATOR(description_t) *description) {
    plugin_string_dup(&description->name, "signups");
    plugin_string_dup(&description->version, "1.0.0");
    plugin_string_dup(&description->summary, "Sign-ups by referrer, and who signed up");
    plugin_string_dup(&description->settings_schema, "{\"type\":\"object\",\"additionalProperties\":false}");
}

// Whether the settings, which are a JSON object, have no key.
static bool are_empty(const plugin_string_t *settings) {
    size_t at = 0;
    for (const char *wanted = "{}"; at < settings->len; at++) {
        uint8_t byte = settings->ptr[at];
        if (byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r') continue;
        if (byte != (uint8_t) *wanted) return false;
        wanted++;
    }
    return true;
}

static void field(TYPE(field) *field, const char *path, TYPE(kind) kind) {
    plugin_string_dup(&field->path, path);
    field->kind = kind;
}

static plugin_list_u32_t indices(uint32_t first, uint32_t count) {
    plugin_list_u32_t list = { .ptr = take(count * sizeof(uint32_t)), .len = count };
    for (uint32_t i = 0; i < count; i++) list.ptr[i] = first + i;
    return list;
}

bool AGGREGATOR(configure)(plugin_string_t *settings, AGGREGATOR(manifest_t) *manifest, plugin_string_t *error) {
    if (!are_empty(settings)) {
        static const char SAYS[] = "signups has no settings, found ";
        size_t said = sizeof SAYS - 1;
        error->len = said + settings->len;
        error->ptr = take(error->len);
        memcpy(error->ptr, SAYS, said);
        memcpy(error->ptr + said, settings->ptr, settings->len);
        plugin_string_free(settings);
        return false;
    }
    plugin_string_free(settings);
    manifest->fields.len = 3;
    manifest->fields.ptr = take(3 * sizeof *manifest->fields.ptr);
    field(&manifest->fields.ptr[0], "/user_id", TEXT);
    field(&manifest->fields.ptr[1], "/referrer", TEXT);
    field(&manifest->fields.ptr[2], "/paid", PAID);
    manifest->event_types.len = 1;
    manifest->event_types.ptr = take(sizeof *manifest->event_types.ptr);
    plugin_string_dup(&manifest->event_types.ptr->name, "signup");
    manifest->event_types.ptr->required = indices(0, 1);
    manifest->event_types.ptr->optional = indices(1, 2);
    manifest->ordering = TALLY_AGGREGATOR_TYPES_ORDERING_COMMUTATIVE;
    plugin_string_dup(&manifest->state_version, "1");
    manifest->loads = (plugin_list_string_t) { .ptr = NULL, .len = 0 };
    manifest->refusals.len = 1;
    manifest->refusals.ptr = take(sizeof *manifest->refusals.ptr);
    plugin_string_dup(manifest->refusals.ptr, "paid");
    return true;
}

// The next column of a table; its values are still to be filled in.
static tally_aggregator_columns_values_t *column(TYPE(table) *table, const char *name, TYPE(kind) kind, TYPE(role) role) {
    TYPE(named_column) *column = &table->columns.ptr[table->columns.len++];
    plugin_string_dup(&column->name, name);
    column->kind = kind;
    column->role = role;
    column->column.present = (plugin_list_u8_t) { .ptr = NULL, .len = 0 };
    return &column->column.values;
}

// The next column of integers; its numbers are still to be filled in.
static int64_t *integers(TYPE(table) *table, const char *name, TYPE(kind) kind, TYPE(role) role, size_t rows) {
    tally_aggregator_columns_values_t *values = column(table, name, kind, role);
    values->tag = TALLY_AGGREGATOR_COLUMNS_VALUES_INTEGERS;
    values->val.integers = (plugin_list_s64_t) { .ptr = take(rows * sizeof(int64_t)), .len = rows };
    return values->val.integers.ptr;
}

static int64_t number(uint64_t count) {
    return count > INT64_MAX ? INT64_MAX : (int64_t) count;
}

static void begin(TYPE(table) *table, const char *name, size_t columns, uint64_t left_out) {
    plugin_string_dup(&table->name, name);
    table->columns.ptr = take(columns * sizeof *table->columns.ptr);
    table->columns.len = 0;
    table->rows_left_out = left_out;
}

static void summary(const accumulator *self, TYPE(table) *table) {
    uint64_t kept = 0;
    for (uint32_t i = 0; i < self->referrer_count; i++) kept += self->referrers[i].signups;
    bool exact = self->user_count < USERS;
    uint64_t users = exact ? self->user_count : (uint64_t) ((USERS - 1) * HIGHEST / self->users[USERS - 1]);
    begin(table, "summary", 6, 0);
    *integers(table, "signups", INTEGER, TALLY_AGGREGATOR_TYPES_ROLE_COUNTER, 1) = number(self->signups);
    *integers(table, "paid", PAID, TALLY_AGGREGATOR_TYPES_ROLE_COUNTER, 1) = number(self->paid);
    *integers(table, "direct", INTEGER, TALLY_AGGREGATOR_TYPES_ROLE_COUNTER, 1) = number(self->direct);
    *integers(table, "users", INTEGER, TALLY_AGGREGATOR_TYPES_ROLE_GAUGE, 1) = number(users);
    tally_aggregator_columns_values_t *values = column(table, "users_exact", BOOLEAN, TALLY_AGGREGATOR_TYPES_ROLE_GAUGE);
    values->tag = TALLY_AGGREGATOR_COLUMNS_VALUES_BOOLEANS;
    values->val.booleans = (plugin_list_u8_t) { .ptr = take(1), .len = 1 };
    values->val.booleans.ptr[0] = exact;
    *integers(table, "other_referrers", INTEGER, TALLY_AGGREGATOR_TYPES_ROLE_GAUGE, 1) = number(self->signups - self->direct - kept);
}

static int by_signups(const void *a, const void *b) {
    const referrer *first = *(const referrer *const *) a, *second = *(const referrer *const *) b;
    if (first->signups != second->signups) return first->signups > second->signups ? -1 : 1;
    return by_rank(first, second);
}

static void referrers(const accumulator *self, const TYPE(question) *question, TYPE(table) *table) {
    const referrer *rows[REFERRERS];
    size_t count = self->referrer_count;
    for (size_t i = 0; i < count; i++) rows[i] = &self->referrers[i];
    qsort(rows, count, sizeof *rows, by_signups);
    size_t from = question->skip_rows < count ? question->skip_rows : count;
    size_t to = question->row_limit && question->row_limit < count - from ? from + question->row_limit : count;
    size_t shown = to - from, bytes = 0;
    for (size_t i = from; i < to; i++) bytes += rows[i]->length;

    begin(table, "referrers", 3, count - to);
    tally_aggregator_columns_values_t *values = column(table, "referrer", TEXT, TALLY_AGGREGATOR_TYPES_ROLE_KEY);
    values->tag = TALLY_AGGREGATOR_COLUMNS_VALUES_TEXT;
    values->val.text = (tally_aggregator_columns_text_t) {
        .codes = indices(0, shown),
        .ends = indices(0, shown),
        .bytes = { .ptr = take(bytes), .len = bytes },
        .hashes = { .ptr = NULL, .len = 0 },
    };
    int64_t *signups = integers(table, "signups", INTEGER, TALLY_AGGREGATOR_TYPES_ROLE_COUNTER, shown);
    int64_t *paid = integers(table, "paid", PAID, TALLY_AGGREGATOR_TYPES_ROLE_COUNTER, shown);
    uint32_t end = 0;
    for (size_t i = 0; i < shown; i++) {
        const referrer *each = rows[from + i];
        memcpy(values->val.text.bytes.ptr + end, each->text, each->length);
        end += each->length;
        values->val.text.ends.ptr[i] = end;
        signups[i] = number(each->signups);
        paid[i] = number(each->paid);
    }
}

static bool is_wanted(const TYPE(question) *question, const char *table) {
    for (size_t i = 0; i < question->tables.len; i++) {
        const plugin_string_t *name = &question->tables.ptr[i];
        if (name->len == strlen(table) && memcmp(name->ptr, table, name->len) == 0) return true;
    }
    return question->tables.len == 0;
}

bool AGGREGATOR(method_accumulator_report)(
    accumulator *self, AGGREGATOR(question_t) *question, AGGREGATOR(list_table_t) *tables, plugin_string_t *error
) {
    (void) error;
    tables->ptr = take(2 * sizeof *tables->ptr);
    tables->len = 1;
    summary(self, &tables->ptr[0]);
    if (is_wanted(question, "referrers")) referrers(self, question, &tables->ptr[tables->len++]);
    AGGREGATOR(question_free)(question);
    return true;
}
