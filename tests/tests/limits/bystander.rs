//! A client that goes past no limit, on a connection of its own: it must work before, while and after another one does.

use tally_tests::Work;
use tally_tests::wire::{self, Lines};

/// An event that everything takes.
pub const VIEW: &str = r#"{"type":"action","user_id":"u1","resource_type":"posts:1","action":"view"}"#;

/// See the module.
pub struct Bystander {
    client: Lines,
    sent: u64,
}

impl Bystander {
    /// Connects by the Unix socket.
    pub fn new(work: &Work) -> Self {
        let mut bystander =
            Self { client: Lines::begin(wire::unix(&work.path("t.sock")), r#"{"tally":"ack"}"#), sent: 0 };
        bystander.works();
        bystander
    }

    /// Sends an event, which must be accepted.
    pub fn works(&mut self) {
        self.client.write(format!("{VIEW}\n"));
        self.sent += 1;
        let answer = self.client.durable(self.sent);
        assert_eq!(answer["rejected"], 0, "{answer}");
    }

    /// How many events it has sent; all of them were accepted.
    pub fn sent(&self) -> u64 {
        self.sent
    }
}
