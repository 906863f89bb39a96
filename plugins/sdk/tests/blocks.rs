//! Every building block in one aggregator: through events, reports and the laws, and blocks within blocks.

use expect_test::expect;
use tally_sdk::testing::{Harness, check_laws};
use tally_sdk::{
    Aggregator, ApproxDistinct, BottomK, Count, Distinct, Event, Groups, Histogram, Leaderboard, Max, Min, NoSettings,
    PerDay, PerHour, Quantiles, Question, Refusal, Report, State, Stats, Sum, Text, Timestamp,
};

#[derive(Event)]
#[event(type = "request")]
struct Request<'a> {
    #[field(time)]
    at: Timestamp,
    #[field("/user")]
    user: Text<'a>,
    #[field("/path", prefix = "/", refuse = "path")]
    path: Text<'a>,
    #[field("/micros")]
    micros: i64,
}

#[derive(State)]
struct Requests {
    requests: Count,
    time: Sum,
    fastest: Min,
    slowest: Max,
    stats: Stats,
    histogram: Histogram,
    quantiles: Quantiles<4>,
    users: Distinct,
    about_users: ApproxDistinct<2, 4>,
    paths: Groups<Stats>,
    few_paths: BottomK<ApproxDistinct<1, 4>, 2>,
    hours: PerHour<Count, 2>,
    days: PerDay<BottomK<Quantiles<1, 2>, 1>, 2>,
    #[state(skip)]
    board: Leaderboard,
}

impl Aggregator for Requests {
    const NAME: &'static str = "requests";
    const VERSION: &'static str = "1.0.0";
    const SUMMARY: &'static str = "All blocks";
    const STATE_VERSION: &'static str = "1";
    const SHARD_KEY: Option<&'static str> = Some("/user");
    type Settings = NoSettings;
    type Event<'a> = Request<'a>;

    fn new(_: &NoSettings) -> Result<Self, String> {
        Ok(Self {
            requests: Count::default(),
            time: Sum::default(),
            fastest: Min::default(),
            slowest: Max::default(),
            stats: Stats::default(),
            histogram: Histogram::new(&[100, 1000])?,
            quantiles: Quantiles::default(),
            users: Distinct::default(),
            about_users: ApproxDistinct::default(),
            paths: Groups::default(),
            few_paths: BottomK::default(),
            hours: PerHour::default(),
            days: PerDay::default(),
            board: Leaderboard::default(),
        })
    }

    fn apply(&mut self, event: &Request<'_>) -> Result<(), Refusal> {
        self.requests.add(1);
        self.time.add(event.micros);
        self.fastest.add(event.micros);
        self.slowest.add(event.micros);
        self.stats.add(event.micros);
        self.histogram.add(event.micros);
        self.quantiles.add(event.micros);
        self.users.insert(event.user);
        self.about_users.insert(event.user);
        let path = self.paths.number(event.path);
        self.paths.values_mut()[path].add(event.micros);
        self.board.touch(path);
        self.few_paths.entry(event.path).insert(event.user);
        self.hours.entry(event.at).add(1);
        self.days.entry(event.at).entry(event.path).add(event.micros);
        Ok(())
    }

    fn rebuild(&mut self) {
        self.board.touch_all(self.paths.len());
    }

    fn report(&self, question: &Question, report: &mut Report) -> Result<(), String> {
        let order = |a: usize, b: usize| {
            let time = |path: usize| self.paths.values()[path].sum();
            time(b).cmp(&time(a)).then_with(|| self.paths.key_bytes(a).cmp(self.paths.key_bytes(b)))
        };
        let longest = self.board.leader(self.paths.len(), |a, b| order(a, b).is_lt());
        report
            .summary()
            .counter("requests", [self.requests])
            .counter("time", [self.time])
            .gauge("fastest", [self.fastest.get()])
            .gauge("slowest", [self.slowest.get()])
            .gauge("mean", [self.stats.mean()])
            .gauge("deviation", [self.stats.standard_deviation()])
            .gauge("median", [self.quantiles.quantile(1, 2)])
            .gauge("median_error", [self.quantiles.relative_error()])
            .counter("users", [self.users.len()])
            .gauge("about_users", [self.about_users.len()])
            .gauge("about_users_is_exact", [self.about_users.is_exact()])
            .gauge("longest", [longest.map(|path| self.paths.key(path))])
            .counter("users_of_other_paths", [self.few_paths.other().len()])
            .counter("earlier", [*self.hours.older()]);
        if question.wants("hours") {
            let page = question.page(self.hours.iter(), |a, b| b.0.cmp(&a.0));
            report
                .table("hours", page.left_out)
                .key("hour", page.rows.iter().map(|(hour, _)| *hour))
                .counter("requests", page.rows.iter().map(|(_, count)| **count));
        }
        Ok(())
    }
}

fn request(number: u64) -> String {
    let (user, path, hour) = (number * 5 % 7, number * number % 5, number % 24);
    let (day, micros) = (1 + number * 3 % 4, 37 * number * number % 2003);
    format!(
        r#"{{"type":"request","timestamp":"2026-01-{day:02}T{hour:02}:30:00Z","user":"u{user}","path":"/p{path}","micros":{micros}}}"#
    )
}

#[test]
fn all_blocks_answer() {
    let mut harness = Harness::<Requests>::new("{}");
    harness.apply(&(0..40).map(request).collect::<Vec<_>>());
    let columns = [
        "requests",
        "time",
        "fastest",
        "slowest",
        "mean",
        "deviation",
        "median",
        "median_error",
        "users",
        "about_users",
        "about_users_is_exact",
        "longest",
        "users_of_other_paths",
        "earlier",
    ];
    let shown: Vec<String> = columns.iter().map(|column| format!("{column} {}", harness.summary(column))).collect();
    expect![[r#"
        requests 40
        time 38900
        fastest 0
        slowest 1973
        mean 972.5
        deviation 569.593451507301
        median 979
        median_error 0.0078125
        users 7
        about_users 7
        about_users_is_exact false
        longest p4
        users_of_other_paths 7
        earlier 38"#]]
    .assert_eq(&shown.join("\n"));
    let hours: Vec<String> = harness.table("hours", 0, 0).0.iter().map(|row| row.join(" ")).collect();
    expect![[r#"
        1767560400000000 1
        1767546000000000 1"#]]
    .assert_eq(&hours.join("\n"));
}

#[test]
fn the_laws_hold_for_all_blocks_together_and_within_each_other() {
    check_laws::<Requests>("{}", &(0..24).map(request).collect::<Vec<_>>());
    check_laws::<Requests>("{}", &[]);
}
