//! What can go wrong, in words. Messages say what the plugin did; the caller adds which plugin file or aggregator it was.

use std::time::Duration;

/// Why a component was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The sandbox itself could not be set up.
    #[error("could not set up the sandbox: {0}")]
    Engine(String),
    /// Too big.
    #[error("the component is {bytes} bytes, more than the {limit} that are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not a component at all, or a broken or truncated one.
    #[error("not a usable WebAssembly component: {0}")]
    NotAComponent(String),
    /// It asks for something else than the contract offers, or lacks something the host calls.
    #[error("the component does not fit the contract {contract}: {problem}", contract = crate::contract::NAME)]
    Contract {
        /// Which import or export differs, and what to do about it.
        problem: String,
    },
    /// What it says of itself is not acceptable.
    #[error("the plugin's description is not acceptable: {0}")]
    Description(String),
    /// The settings are not a JSON object.
    #[error("the settings must be a JSON object: {0}")]
    Settings(String),
    /// `configure` said no.
    #[error("the plugin refused its settings: {0}")]
    Refused(String),
    /// The manifest breaks a rule of the contract.
    #[error("the plugin's manifest is not acceptable: {0}")]
    Manifest(String),
    /// What it says of sharding breaks a rule of the contract.
    #[error("the plugin's shard key is not acceptable: {0}")]
    ShardKey(String),
    /// The plugin's own `selfcheck` failed.
    #[error("the plugin's self-check failed: {0}")]
    SelfCheck(String),
    /// A call that was needed to find out failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Why a call into an instance gave no answer.
///
/// [`Trap`](Self::Trap) and [`OutOfFuel`](Self::OutOfFuel) are the same on every machine; [`Timeout`](Self::Timeout) and
/// [`Memory`](Self::Memory) need not be, so nothing about an event may be concluded from them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The guest trapped by itself: a panic, an out-of-bounds access, a stack overflow.
    #[error("`{call}` trapped: {reason}")]
    Trap {
        /// The function called.
        call: &'static str,
        /// What the trap was.
        reason: String,
        /// The guest's frames, innermost first, one per line; empty if there are none.
        backtrace: String,
    },
    /// The call used up its fuel: it loops, or does far more per row than it may.
    #[error("`{call}` used up its compute budget of {budget} units of fuel")]
    OutOfFuel {
        /// The function called.
        call: &'static str,
        /// What it had.
        budget: u64,
    },
    /// The wall-clock backstop ended the call.
    #[error("`{call}` was ended after {backstop:?} of wall-clock time")]
    Timeout {
        /// The function called.
        call: &'static str,
        /// The backstop.
        backstop: Duration,
    },
    /// The instance wanted more memory than it may have, or than the machine gave.
    #[error("`{call}` wanted too much memory: {reason}")]
    Memory {
        /// The function called.
        call: &'static str,
        /// Which limit, and what was wanted.
        reason: String,
    },
    /// The guest answered with an error of its own. The instance goes on working.
    #[error("{0}")]
    Refused(String),
    /// The guest's answer breaks the contract.
    #[error("the plugin gave an answer that breaks the contract: {0}")]
    Invalid(String),
    /// An earlier call failed, so the instance takes no more calls: drop it and rebuild in a new one.
    #[error("the instance takes no more calls since one failed: {0}")]
    Poisoned(Box<CallError>),
}

impl CallError {
    /// True for a failure after which the instance's memory may hold anything: all but the guest's own `Refused`.
    pub fn poisons(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}
