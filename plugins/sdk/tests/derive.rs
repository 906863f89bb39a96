//! What `#[derive(Event)]` and `#[derive(State)]` make of a struct, seen through an aggregator that uses all of it.

use expect_test::{Expect, expect};
use std::cmp::Reverse;
use tally_sdk::testing::{Harness, check_laws};
use tally_sdk::{
    Aggregator, Count, Decimal, Distinct, Event, Groups, Json, LoadError, PerText, Question, Reader, Refusal, Report,
    State, Sum, Text, Timestamp,
};

#[derive(Event)]
#[event(type = "order")]
struct Order<'a> {
    #[field(time)]
    at: Timestamp,
    #[field(sequence)]
    sequence: u64,
    #[field("/user")]
    user: Text<'a>,
    #[field("/price")]
    price: Decimal<2>,
    #[field("/item/sku", prefix = "sku-", refuse = "sku")]
    sku: Option<Text<'a>>,
    #[field("/gift")]
    gift: Option<bool>,
    #[field("/weight")]
    weight: Option<f64>,
    #[field("/due")]
    due: Option<Timestamp>,
    #[field("/item")]
    item: Option<Json<'a>>,
}

#[derive(Event)]
#[event(type = "refund")]
struct Refund<'a> {
    #[field("/user")]
    user: Option<Text<'a>>,
    #[field("/cents")]
    cents: i64,
}

/// Borrows nothing, so it needs no lifetime.
#[derive(Event)]
#[event(type = "*")]
struct Other {
    #[field(sequence)]
    sequence: u64,
}

#[derive(Event)]
enum Known<'a> {
    Order(Order<'a>),
    Refund(Refund<'a>),
}

/// Enums nest; event types are counted through.
#[derive(Event)]
enum Any<'a> {
    Known(Known<'a>),
    Other(Other),
}

#[derive(Default, State)]
struct Money {
    orders: Count,
    cents: Sum,
}

#[derive(State)]
struct Shop {
    money: Money,
    users: Distinct,
    skus: Groups<Money>,
    others: [Count; 2],
    #[state(skip)]
    lines: Vec<String>,
    #[state(skip)]
    lengths: PerText<usize>,
}

impl Aggregator for Shop {
    const NAME: &'static str = "shop";
    const VERSION: &'static str = "1.2.3";
    const SUMMARY: &'static str = "Uses everything";
    const STATE_VERSION: &'static str = "2";
    const LOADS: &'static [&'static str] = &["1"];
    const REFUSALS: &'static [&'static str] = &["free"];
    type Settings = tally_sdk::NoSettings;
    type Event<'a> = Any<'a>;

    fn new(_: &Self::Settings) -> Result<Self, String> {
        Ok(Self {
            money: Money::default(),
            users: Distinct::default(),
            skus: Groups::default(),
            others: Default::default(),
            lines: Vec::new(),
            lengths: PerText::default(),
        })
    }

    fn apply(&mut self, event: &Any<'_>) -> Result<(), Refusal> {
        match event {
            Any::Known(Known::Order(order)) => self.order(order)?,
            Any::Known(Known::Refund(refund)) => {
                self.money.cents.add(-refund.cents);
                self.lines.push(format!("refund of {} to {:?}", refund.cents, refund.user));
            }
            Any::Other(other) => {
                self.others[(other.sequence % 2) as usize].add(1);
                self.lines.push(format!("other {}", other.sequence));
            }
        }
        Ok(())
    }

    fn report(&self, question: &Question, report: &mut Report) -> Result<(), String> {
        report
            .summary()
            .counter("orders", [self.money.orders])
            .gauge("cents", [Decimal::<2> { scaled: self.money.cents.0 as i64 }])
            .gauge("users", [self.users.len()]);
        let page = question.page(self.skus.iter(), |a, b| (Reverse(a.1.orders), a.0).cmp(&(Reverse(b.1.orders), b.0)));
        report
            .table("skus", page.left_out)
            .key("sku", page.rows.iter().map(|(sku, _)| *sku))
            .counter("orders", page.rows.iter().map(|(_, money)| money.orders));
        Ok(())
    }

    fn load_older(&mut self, version: &str, saved: &mut Reader<'_>) -> Result<(), LoadError> {
        assert_eq!(version, "1");
        self.money.load(saved)
    }
}

impl Shop {
    fn order(&mut self, order: &Order<'_>) -> Result<(), Refusal> {
        if order.price.scaled == 0 {
            return Err(Refusal("free"));
        }
        self.money.orders.add(1);
        self.money.cents.add(order.price.scaled);
        self.users.insert(order.user);
        if let Some(sku) = order.sku {
            self.skus.entry(sku).orders.add(1);
        }
        let length = self.lengths.get_or_insert_with(order.user, |user| user.as_str().chars().count());
        let Order { at, sequence, user, price, sku, gift, weight, due, item } = order;
        self.lines.push(format!(
            "{sequence} at {} us: {user:?} ({length}) {} sku {sku:?} gift {gift:?} weight {weight:?} due {:?} item {:?}",
            at.micros,
            price.scaled,
            due.map(|due| due.micros),
            item.map(|item| item.0),
        ));
        Ok(())
    }
}

fn lines() -> Vec<String> {
    [
        r#"{"type":"order","timestamp":"1970-01-01T00:00:01Z","user":"zoë","price":19.9,"item":{"sku":"sku-7"},"gift":true}"#,
        r#"{"type":"order","timestamp":"1970-01-01T00:00:02Z","user":"ada","price":1,"weight":0.5,"due":"1970-01-01T00:00:00.5Z"}"#,
        r#"{"type":"refund","user":"zoë","cents":90}"#,
        r#"{"type":"refund","user":null,"cents":1}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"order","user":"ada","price":2.50,"item":{"sku":"sku-7"}}"#,
        r#"{"type":"order","user":"ada","price":3,"item":{"sku":"sku-12"}}"#,
        r#"{"type":"pong"}"#,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn check(shown: String, expected: Expect) {
    expected.assert_eq(&shown);
}

#[test]
fn fields_are_read_as_declared() {
    let mut shop = Harness::<Shop>::new("{}");
    assert_eq!(shop.apply(&lines()), []);
    check(
        shop.state().lines.join("\n"),
        expect![[r#"
            1 at 1000000 us: "zoë" (3) 1990 sku Some("7") gift Some(true) weight None due None item Some("{\"sku\":\"sku-7\"}")
            2 at 2000000 us: "ada" (3) 100 sku None gift None weight Some(0.5) due Some(500000) item None
            refund of 90 to Some("zoë")
            refund of 1 to None
            other 5
            6 at 0 us: "ada" (3) 250 sku Some("7") gift None weight None due None item Some("{\"sku\":\"sku-7\"}")
            7 at 0 us: "ada" (3) 300 sku Some("12") gift None weight None due None item Some("{\"sku\":\"sku-12\"}")
            other 8"#]],
    );
    let summary = ["orders", "cents", "users"].map(|column| shop.summary(column));
    assert_eq!(summary, ["4", "2549", "2"]);
    assert_eq!(shop.table("skus", 0, 1), (vec![vec!["7".to_owned(), "2".to_owned()]], 1));
}

#[test]
fn refusals_name_their_reason_and_change_nothing() {
    let mut shop = Harness::<Shop>::new("{}");
    let refused = shop.apply(&[
        r#"{"type":"order","user":"ada","price":0}"#,
        r#"{"type":"order","user":"ada","price":1,"item":{"sku":"7"}}"#,
        r#"{"type":"order","user":"ada","price":1,"item":{"sku":"sku-"}}"#,
        r#"{"type":"order","user":"ada","price":1,"item":{"sku":7}}"#,
        r#"{"type":"order","price":1}"#,
        r#"{"type":"order","user":"ada","price":0.001}"#,
        r#"{"type":"refund","cents":"1"}"#,
    ]);
    let shown: Vec<String> = refused.iter().map(|(line, reason)| format!("{line} {reason}")).collect();
    check(
        shown.join("\n"),
        expect![[r#"
            0 free
            1 sku
            2 sku
            3 wrong_kind:/item/sku
            4 missing:/user
            5 surplus_digits:/price
            6 wrong_kind:/cents"#]],
    );
    assert_eq!(shop.save(), Harness::<Shop>::new("{}").save());
}

#[test]
fn parts_are_saved_in_order_without_those_skipped() {
    let mut shop = Harness::<Shop>::new("{}");
    shop.apply(&lines()[6..]);
    let mut expected = Vec::new();
    expected.extend(1u64.to_le_bytes()); // money.orders
    expected.extend(300i128.to_le_bytes()); // money.cents
    expected.extend(1u32.to_le_bytes()); // users
    expected.extend(xxhash_rust::xxh3::xxh3_64(b"ada").to_le_bytes());
    expected.extend(1u32.to_le_bytes()); // skus
    expected.extend(2u32.to_le_bytes());
    expected.extend(b"12");
    expected.extend(1u64.to_le_bytes());
    expected.extend(0i128.to_le_bytes());
    expected.extend(1u64.to_le_bytes()); // others: "pong" is event 2
    expected.extend(0u64.to_le_bytes());
    assert_eq!(shop.save(), expected);
}

#[test]
fn the_laws_hold() {
    check_laws::<Shop>("{}", &lines());
}

#[test]
fn only_declared_state_versions_load() {
    let older = [1u64.to_le_bytes().as_slice(), &5i128.to_le_bytes()].concat();
    let loaded = Harness::<Shop>::load("{}", "1", &older).unwrap();
    assert_eq!((loaded.summary("orders"), loaded.summary("cents")), ("1".into(), "5".into()));
    let refused = |version: &str, saved: &[u8]| Harness::<Shop>::load("{}", version, saved).err().unwrap();
    check(
        [refused("3", &older), refused("2", &older), refused("1", &[&older[..], b"!"].concat())].join("\n"),
        expect![[r#"
            the state was saved as version "3"; this shop 1.2.3 with its settings takes "2"
            a saved state of shop: the saved state ends too early: 4 bytes wanted at byte 24, 0 left
            a saved state of shop: 1 bytes are left over after byte 24"#]],
    );
}

#[test]
#[should_panic(expected = "the settings of shop: unknown field `weights`")]
fn unknown_settings_are_refused() {
    Harness::<Shop>::new(r#"{"weights":1}"#);
}
