//! What viewers do with posts: views, plays, pauses, unmutes and carousel moves, per post and in all, unique visitors, and
//! the hot post. Pure logic; the SDK makes it a component. Knows nothing of the host.
//!
//! The score of a post is the sum of its counts times their weights: by default views + 2 plays + unmutes - pauses. Ties go
//! to more views, then to the smaller post id, byte by byte.
//!
//! Visitors are counted by the 64-bit hash of their id. Two ids that share a hash count once: among n visitors the odds that
//! this happens at all are about n² / 2⁶⁵, 3 in 100 million for a million visitors.

use serde::Deserialize;
use tally_sdk::{
    Aggregator, Count, Distinct, Event, Groups, Leaderboard, PerText, Question, Refusal, Report, State, Text,
};

/// The actions, in the order of every table, of weights and of saved counts.
const ACTIONS: [&str; 6] = ["view", "play", "pause", "unmute", "carousel_left", "carousel_right"];
const VIEW: usize = 0;

/// What the columns of their counts are called.
const COLUMNS: [&str; ACTIONS.len()] = ["views", "plays", "pauses", "unmutes", "carousel_left", "carousel_right"];

/// One action of a user on a post.
#[derive(Event)]
#[event(type = "action")]
pub struct Action<'a> {
    #[field("/user_id")]
    user: Text<'a>,
    #[field("/resource_type", prefix = "posts:", refuse = "resource")]
    post: Text<'a>,
    #[field("/action")]
    action: Text<'a>,
}

/// The settings: how much each action counts for the score.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    weights: Weights,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Weights {
    view: i64,
    play: i64,
    pause: i64,
    unmute: i64,
    carousel_left: i64,
    carousel_right: i64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { view: 1, play: 2, pause: -1, unmute: 1, carousel_left: 0, carousel_right: 0 }
    }
}

impl Weights {
    fn by_action(&self) -> [i64; 6] {
        [self.view, self.play, self.pause, self.unmute, self.carousel_left, self.carousel_right]
    }
}

/// Counts by action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, State)]
struct Counts([Count; ACTIONS.len()]);

impl Counts {
    #[inline]
    fn of(&mut self, action: usize) -> &mut Count {
        &mut self.0[action]
    }

    fn score(&self, weights: &[i64; 6]) -> i64 {
        let terms = self.0.iter().zip(weights).map(|(count, weight)| match count.0 {
            // Weights are at most a million; a guest's saturating product is a call of 128-bit arithmetic.
            0..=0xFF_FFFF_FFFF => count.0 as i64 * weight,
            large => i64::try_from(large).unwrap_or(i64::MAX).saturating_mul(*weight),
        });
        terms.fold(0i64, i64::saturating_add)
    }
}

/// The state.
#[derive(Debug)]
pub struct VideoActions {
    weights: [i64; 6],
    totals: Counts,
    visitors: Distinct,
    posts: Groups<Counts>,
    known_actions: PerText<Option<u8>>,
    board: Leaderboard,
}

impl State for VideoActions {
    fn save(&self, out: &mut Vec<u8>) {
        self.totals.save(out);
        self.visitors.save(out);
        self.posts.save(out);
    }

    fn load(&mut self, saved: &mut tally_sdk::Reader<'_>) -> Result<(), tally_sdk::LoadError> {
        self.totals.load(saved)?;
        self.visitors.load(saved)?;
        self.posts.load(saved)?;
        self.board.touch_all(self.posts.len());
        Ok(())
    }

    fn merge(&mut self, later: &Self) {
        self.totals.merge(&later.totals);
        self.visitors.merge(&later.visitors);
        self.posts.merge(&later.posts);
        self.board.touch_all(self.posts.len());
    }
}

impl VideoActions {
    /// The number of the hot post, kept by a tournament over the posts whose counts changed since it was last asked.
    fn hot(&self) -> Option<usize> {
        let posts = self.posts.values();
        self.board.leader(posts.len(), |a, b| self.beats(a, b))
    }

    fn beats(&self, a: usize, b: usize) -> bool {
        self.rank(a, b).is_lt()
    }

    /// Higher score first, then more views, then the smaller id.
    fn rank(&self, a: usize, b: usize) -> std::cmp::Ordering {
        let posts = self.posts.values();
        let of = |number: usize| (posts[number].score(&self.weights), posts[number].0[VIEW].0);
        of(b).cmp(&of(a)).then_with(|| self.posts.key_bytes(a).cmp(self.posts.key_bytes(b)))
    }
}

impl Aggregator for VideoActions {
    const NAME: &'static str = "video-actions";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Actions per post and in all, unique visitors, and the hot post";
    const STATE_VERSION: &'static str = "1";
    // Visitors are most of what is kept, and each is kept once this way; the few posts are kept in every shard.
    const SHARD_KEY: Option<&'static str> = Some("/user_id");
    const SETTINGS_SCHEMA: &'static str = r#"{"type":"object","additionalProperties":false,"properties":{"weights":{"type":"object","additionalProperties":false,"properties":{"view":{"type":"integer"},"play":{"type":"integer"},"pause":{"type":"integer"},"unmute":{"type":"integer"},"carousel_left":{"type":"integer"},"carousel_right":{"type":"integer"}}}}}"#;
    const REFUSALS: &'static [&'static str] = &["unknown_action"];

    type Settings = Settings;
    type Event<'a> = Action<'a>;

    fn new(settings: &Settings) -> Result<Self, String> {
        let weights = settings.weights.by_action();
        if let Some(weight) = weights.iter().find(|weight| weight.unsigned_abs() > 1_000_000) {
            return Err(format!("weight {weight} is out of range: weights go from -1000000 to 1000000"));
        }
        Ok(Self {
            weights,
            totals: Counts::default(),
            visitors: Distinct::default(),
            posts: Groups::default(),
            known_actions: PerText::default(),
            board: Leaderboard::default(),
        })
    }

    /// The weights are part of it: scores under other weights are other numbers.
    fn state_version(settings: &Settings) -> String {
        let weights = settings.weights.by_action().map(|weight| weight.to_string());
        format!("{};weights={}", Self::STATE_VERSION, weights.join(","))
    }

    #[inline]
    fn apply(&mut self, event: &Action<'_>) -> Result<(), Refusal> {
        let known = self.known_actions.get_or_insert_with(event.action, |text| {
            ACTIONS.iter().position(|action| text == **action).map(|index| index as u8)
        });
        let Some(action) = known else { return Err(Refusal("unknown_action")) };
        let action = usize::from(action);
        self.totals.of(action).add(1);
        self.visitors.insert(event.user);
        let post = self.posts.number(event.post);
        self.posts.values_mut()[post].of(action).add(1);
        self.board.touch(post);
        Ok(())
    }

    fn report(&self, question: &Question, report: &mut Report) -> Result<(), String> {
        let totals = self.totals.0;
        let hot = self.hot();
        let summary = report
            .summary()
            .counter("total_events", [totals.iter().fold(0, |sum: u64, count| sum.saturating_add(count.0))])
            .counter("total_visitors", [self.visitors.len()])
            .counter("total_views", [totals[VIEW]]);
        for (column, count) in COLUMNS.iter().zip(totals) {
            summary.counter(column, [count]);
        }
        summary
            .gauge("hot_post", [hot.map(|number| format!("post_{}", self.posts.key(number)))])
            .gauge("hot_post_score", [hot.map(|number| self.posts.values()[number].score(&self.weights))]);
        if question.wants("posts") {
            let page = question.page(0..self.posts.len(), |a, b| self.rank(*a, *b));
            let counts: Vec<Counts> = page.rows.iter().map(|number| self.posts.values()[*number]).collect();
            let posts = report
                .table("posts", page.left_out)
                .key("post_id", page.rows.iter().map(|number| self.posts.key(*number)));
            for (action, column) in COLUMNS.iter().enumerate() {
                posts.counter(column, counts.iter().map(|counts| counts.0[action]));
            }
            posts.gauge("score", counts.iter().map(|counts| counts.score(&self.weights)));
        }
        if question.wants("actions") {
            let page = question.page(0..ACTIONS.len(), usize::cmp);
            report
                .table("actions", page.left_out)
                .key("action", page.rows.iter().map(|action| ACTIONS[*action]))
                .counter("count", page.rows.iter().map(|action| totals[*action]));
        }
        Ok(())
    }
}

tally_sdk::export!(VideoActions);

#[cfg(test)]
mod tests;
