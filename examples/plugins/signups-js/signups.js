// Sign-ups by referrer, in bounded memory: the twin of signups-rust, whose header says what is kept and why. Equal events give equal
// bytes and reports in both.
//
// u64 and s64 come as numbers, exact to 2^53: hashes are rounded (so the twins round them too), sums are kept as BigInt. Lists of numbers come
// as arrays, list<u8> as Uint8Array. A result's error is thrown. Nothing here decodes text: a referrer is a string of its UTF-8 bytes, one
// character each, which compares as the bytes do; JavaScript's own strings compare by UTF-16.

const REFERRERS = 256;
const USERS = 1024;
const MOST_PAID = 1_000_000_000;
const HIGHEST = 2 ** 64;
const LARGEST = 2n ** 63n - 1n;

const FIELDS = { user: 0, referrer: 1, paid: 2 };
const PAID = { tag: "decimal", val: 2 };

function describe() {
    return {
        name: "signups",
        version: "1.0.0",
        summary: "Sign-ups by referrer, and who signed up",
        settingsSchema: '{"type":"object","additionalProperties":false}',
    };
}

function configure(settings) {
    const unknown = Object.keys(JSON.parse(settings));
    if (unknown.length > 0) throw `signups has no setting ${unknown[0]}`;
    return {
        fields: [
            { path: "/user_id", kind: { tag: "text" } },
            { path: "/referrer", kind: { tag: "text" } },
            { path: "/paid", kind: PAID },
        ],
        eventTypes: [{ name: "signup", required: [FIELDS.user], optional: [FIELDS.referrer, FIELDS.paid] }],
        ordering: "commutative",
        stateVersion: "1",
        loads: [],
        refusals: ["paid"],
    };
}

// By rank, then by bytes: the order in which referrers are kept, saved, and listed where they are equal otherwise.
function byRank(a, b) {
    if (a.rank !== b.rank) return a.rank < b.rank ? -1 : 1;
    return a.text < b.text ? -1 : a.text > b.text ? 1 : 0;
}

// An entry of a batch's dictionary.
function entry(text, code) {
    const bytes = text.bytes.subarray(code === 0 ? 0 : text.ends[code - 1], text.ends[code]);
    return String.fromCharCode(...bytes);
}

class Accumulator {
    constructor() {
        this.signups = 0;
        this.paid = 0n;
        this.direct = 0;
        this.referrers = new Map();
        this.users = [];
    }

    // Work that has to be done for each row is kept small: what can be done once for each entry of a dictionary is done after. What
    // goes by code is in typed arrays; maps of small integers are slow in QuickJS.
    apply(batch) {
        const [user, referrer, paid] = batch.columns;
        const users = user.values.val;
        const texts = referrer.values.val;
        const amounts = paid.values.val;
        const seen = new Uint8Array(users.ends.length);
        const signups = new Uint32Array(texts.ends.length);
        const sums = new Float64Array(texts.ends.length);
        const refused = [];
        let total = 0;
        for (let row = 0; row < batch.times.length; row++) {
            const amount = paid.present.length === 0 || paid.present[row] ? amounts[row] : 0;
            if (amount < 0 || amount > MOST_PAID) {
                refused.push({ row, reason: 0 });
                continue;
            }
            this.signups++;
            total += amount;
            seen[users.codes[row]] = 1;
            if (referrer.present.length === 0 || referrer.present[row]) {
                const code = texts.codes[row];
                signups[code]++;
                sums[code] += amount;
            } else {
                this.direct++;
            }
        }
        this.paid += BigInt(total);
        signups.forEach((count, code) => {
            if (count > 0) this.count({ rank: texts.hashes[code], text: entry(texts, code), signups: count, paid: BigInt(sums[code]) });
        });
        this.addUsers(users.hashes.filter((_, code) => seen[code]));
        this.trim();
        return refused;
    }

    merge(later) {
        this.signups += later.signups;
        this.paid += later.paid;
        this.direct += later.direct;
        for (const referrer of later.referrers.values()) this.count(referrer);
        this.addUsers(later.users);
        this.trim();
    }

    count(more) {
        const referrer = this.referrers.get(more.text);
        if (referrer) {
            referrer.signups += more.signups;
            referrer.paid += more.paid;
        } else {
            this.referrers.set(more.text, { ...more });
        }
    }

    addUsers(ranks) {
        const highest = this.users.length < USERS ? Infinity : this.users[USERS - 1];
        const lower = ranks.filter((rank) => rank < highest);
        if (lower.length === 0) return;
        const all = new Set(this.users);
        for (const rank of lower) all.add(rank);
        this.users = Array.from(all).sort((a, b) => a - b).slice(0, USERS);
    }

    trim() {
        if (this.referrers.size <= REFERRERS) return;
        const lowest = Array.from(this.referrers.values()).sort(byRank).slice(0, REFERRERS);
        this.referrers = new Map(lowest.map((referrer) => [referrer.text, referrer]));
    }

    save() {
        const referrers = Array.from(this.referrers.values()).sort(byRank);
        const texts = referrers.reduce((sum, { text }) => sum + 28 + text.length, 0);
        const bytes = new Uint8Array(24 + 4 + texts + 4 + 8 * this.users.length);
        const view = new DataView(bytes.buffer);
        let at = 0;
        const u32 = (value) => { view.setUint32(at, value, true); at += 4; };
        const u64 = (value) => { view.setBigUint64(at, BigInt(value), true); at += 8; };
        const f64 = (value) => { view.setFloat64(at, value, true); at += 8; };
        [this.signups, this.paid, this.direct].forEach(u64);
        u32(referrers.length);
        for (const { rank, text, signups, paid } of referrers) {
            f64(rank);
            u64(signups);
            u64(paid);
            u32(text.length);
            for (let i = 0; i < text.length; i++) bytes[at++] = text.charCodeAt(i);
        }
        u32(this.users.length);
        this.users.forEach(f64);
        return bytes;
    }

    static load(_version, saved) {
        const view = new DataView(saved.buffer, saved.byteOffset, saved.byteLength);
        let at = 0;
        const take = (count) => {
            if (count > saved.length - at) throw "the saved state ends too early";
            at += count;
            return at - count;
        };
        const u32 = () => view.getUint32(take(4), true);
        const u64 = () => view.getBigUint64(take(8), true);
        const rank = () => {
            const value = view.getFloat64(take(8), true);
            if (!(value >= 0 && value <= HIGHEST) || Object.is(value, -0)) throw "a rank is none";
            return value;
        };
        const bounded = (count, most) => {
            if (count > most) throw `${count} entries where ${most} may be`;
            return count;
        };
        const loaded = new Accumulator();
        loaded.signups = Number(u64());
        loaded.paid = u64();
        loaded.direct = Number(u64());
        let kept = loaded.direct;
        let last = null;
        for (let left = bounded(u32(), REFERRERS); left > 0; left--) {
            const referrer = { rank: rank(), signups: Number(u64()), paid: u64() };
            const length = u32();
            referrer.text = String.fromCharCode(...saved.subarray(take(length), at));
            if (last && byRank(last, referrer) >= 0) throw "its referrers are out of order";
            loaded.referrers.set(referrer.text, referrer);
            kept += referrer.signups;
            last = referrer;
        }
        for (let left = bounded(u32(), USERS); left > 0; left--) {
            const user = rank();
            if (loaded.users.length > 0 && loaded.users.at(-1) >= user) throw "its users are out of order";
            loaded.users.push(user);
        }
        if (at !== saved.length) throw "bytes are left over";
        if (kept > loaded.signups) throw "its parts are more than its total";
        return loaded;
    }

    report(question) {
        const kept = Array.from(this.referrers.values());
        const exact = this.users.length < USERS;
        const users = exact ? this.users.length : Math.floor(((USERS - 1) * HIGHEST) / this.users[USERS - 1]);
        const others = this.signups - this.direct - kept.reduce((sum, { signups }) => sum + signups, 0);
        const tables = [
            table("summary", 0, [
                integers("signups", "counter", [this.signups]),
                cents("paid", "counter", [this.paid]),
                integers("direct", "counter", [this.direct]),
                integers("users", "gauge", [users]),
                column("users_exact", { tag: "boolean" }, "gauge", { tag: "booleans", val: Uint8Array.of(exact ? 1 : 0) }),
                integers("other_referrers", "gauge", [others]),
            ]),
        ];
        if (question.tables.length === 0 || question.tables.includes("referrers")) {
            kept.sort((a, b) => b.signups - a.signups || byRank(a, b));
            const from = Math.min(question.skipRows, kept.length);
            const to = question.rowLimit === 0 ? kept.length : Math.min(from + question.rowLimit, kept.length);
            const rows = kept.slice(from, to);
            tables.push(
                table("referrers", kept.length - to, [
                    texts("referrer", "key", rows.map(({ text }) => text)),
                    integers("signups", "counter", rows.map(({ signups }) => signups)),
                    cents("paid", "counter", rows.map(({ paid }) => paid)),
                ]),
            );
        }
        return tables;
    }
}

function table(name, rowsLeftOut, columns) {
    return { name, columns, rowsLeftOut };
}

function column(name, kind, role, values) {
    return { name, kind, role, column: { values, present: new Uint8Array() } };
}

function integers(name, role, values) {
    return column(name, { tag: "integer" }, role, { tag: "integers", val: values });
}

function cents(name, role, values) {
    const numbers = values.map((value) => Number(value < LARGEST ? value : LARGEST));
    return column(name, PAID, role, { tag: "integers", val: numbers });
}

function texts(name, role, values) {
    const all = values.join("");
    const bytes = Uint8Array.from(all, (character) => character.charCodeAt(0));
    let end = 0;
    const ends = values.map((text) => (end += text.length));
    return column(name, { tag: "text" }, role, { tag: "text", val: { codes: values.map((_, i) => i), ends, bytes, hashes: [] } });
}

export const aggregator = { describe, configure, Accumulator };
