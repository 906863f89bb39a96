//! Comments on posts, who wrote them, and which post has most. Pure logic; the SDK makes it a component. Knows nothing of the host.
//!
//! Ties go to the smaller post id, byte by byte. Commenters are counted by the 64-bit hash of their id: see [`Distinct`] for the odds of an error.

use std::cmp::Ordering;
use tally_sdk::{
    Aggregator, Count, Distinct, Event, Groups, Leaderboard, NoSettings, Question, Refusal, Report, State, Text,
};

/// One comment.
#[derive(Event)]
#[event(type = "comment_create")]
pub struct Comment<'a> {
    #[field("/user_id")]
    user: Text<'a>,
    #[field("/resource_type", prefix = "posts:", refuse = "resource")]
    post: Text<'a>,
}

/// The state.
#[derive(Debug, Default, State)]
pub struct CommentCreate {
    comments: Count,
    commenters: Distinct,
    posts: Groups<Count>,
    #[state(skip)]
    board: Leaderboard,
}

impl CommentCreate {
    /// More comments first, then the smaller id.
    fn rank(&self, a: usize, b: usize) -> Ordering {
        let counts = self.posts.values();
        counts[b].cmp(&counts[a]).then_with(|| self.posts.key_bytes(a).cmp(self.posts.key_bytes(b)))
    }
}

impl Aggregator for CommentCreate {
    const NAME: &'static str = "comment-create";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Comments per post and in all, unique commenters, and the most commented post";
    const STATE_VERSION: &'static str = "1";
    const SHARD_KEY: Option<&'static str> = Some("/user_id");

    type Settings = NoSettings;
    type Event<'a> = Comment<'a>;

    fn new(_: &NoSettings) -> Result<Self, String> {
        Ok(Self::default())
    }

    fn apply(&mut self, event: &Comment<'_>) -> Result<(), Refusal> {
        self.comments.add(1);
        self.commenters.insert(event.user);
        let post = self.posts.number(event.post);
        self.posts.values_mut()[post].add(1);
        self.board.touch(post);
        Ok(())
    }

    fn rebuild(&mut self) {
        self.board.touch_all(self.posts.len());
    }

    fn report(&self, question: &Question, report: &mut Report) -> Result<(), String> {
        let most = self.board.leader(self.posts.len(), |a, b| self.rank(a, b).is_lt());
        report
            .summary()
            .counter("comments", [self.comments])
            .counter("unique_commenters", [self.commenters.len()])
            .gauge("most_commented_post", [most.map(|post| format!("post_{}", self.posts.key(post)))])
            .gauge("most_commented_post_comments", [most.map(|post| self.posts.values()[post])]);
        if question.wants("posts") {
            let page = question.page(0..self.posts.len(), |a, b| self.rank(*a, *b));
            report
                .table("posts", page.left_out)
                .key("post_id", page.rows.iter().map(|post| self.posts.key(*post)))
                .counter("comments", page.rows.iter().map(|post| self.posts.values()[*post]));
        }
        Ok(())
    }
}

tally_sdk::export!(CommentCreate);

#[cfg(test)]
mod tests {
    use super::*;
    use tally_sdk::testing::{Harness, check_laws};

    fn comment(user: &str, on: &str) -> String {
        format!(r#"{{"type":"comment_create","user_id":"{user}","resource_type":"{on}"}}"#)
    }

    #[test]
    fn counts_comments_commenters_and_posts() {
        let mut harness = Harness::<CommentCreate>::new("{}");
        assert_eq!(harness.summary("most_commented_post"), "-");
        assert_eq!(harness.table("posts", 0, 0), (vec![], 0));
        harness.apply(&[comment("a", "posts:9"), comment("b", "posts:10"), comment("a", "posts:9")]);
        assert_eq!(harness.summary("comments"), "3");
        assert_eq!(harness.summary("unique_commenters"), "2");
        assert_eq!(harness.summary("most_commented_post"), "post_9");
        harness.apply(&[comment("c", "posts:10")]);
        assert_eq!(harness.summary("most_commented_post"), "post_10", "ties go to the smaller id, byte by byte");
        assert_eq!(harness.summary("most_commented_post_comments"), "2");
        assert_eq!(harness.table("posts", 1, 1), (vec![vec!["9".to_owned(), "2".to_owned()]], 0));
    }

    #[test]
    fn a_comment_on_something_else_is_refused() {
        let mut harness = Harness::<CommentCreate>::new("{}");
        let refused = harness.apply(&[comment("a", "users:9"), comment("a", "posts:")]);
        assert_eq!(refused, [(0, "resource".to_owned()), (1, "resource".to_owned())]);
        assert_eq!(harness.summary("comments"), "0");
    }

    #[test]
    fn the_laws_hold() {
        let comments = (0..40).map(|i| comment(&format!("u{}", i * 7 % 11), &format!("posts:{}", i * i % 13)));
        check_laws::<CommentCreate>("{}", &comments.collect::<Vec<_>>());
    }
}
