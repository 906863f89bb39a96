//! How a subcommand ends: exit codes, the error line on stderr, output that nobody reads any more.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use crate::render::Paint;

/// Exit code where two things were compared as asked, and differ.
pub const DIFFERS: u8 = 3;

/// Asked wrongly: flags or configuration, not the world, must change. Ends with exit code 2 as clap's own errors do.
#[derive(Debug)]
pub struct Usage(pub anyhow::Error);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&in_one_line(&self.0))
    }
}

impl std::error::Error for Usage {}

/// Prints the error, if any, and gives the exit code.
pub fn exit_code(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    let error = match outcome {
        Ok(code) => return code,
        Err(error) => error,
    };
    if is_closed_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    let _ = writeln!(std::io::stderr(), "{} {}", Paint::stderr().alarm("error:"), in_one_line(&error));
    match error.downcast_ref::<Usage>() {
        Some(_) => ExitCode::from(2),
        None => ExitCode::FAILURE,
    }
}

/// Writes to stdout. A reader that has gone (`| head`) is an error that [`exit_code`] takes for success.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).map_err(ClosedPipe::sort)?;
    out.flush().map_err(ClosedPipe::sort)?;
    Ok(())
}

/// Whoever read stdout has left.
#[derive(Debug)]
struct ClosedPipe;

impl ClosedPipe {
    fn sort(error: std::io::Error) -> anyhow::Error {
        match error.kind() {
            ErrorKind::BrokenPipe => ClosedPipe.into(),
            _ => anyhow::Error::new(error).context("cannot write to stdout"),
        }
    }
}

impl std::fmt::Display for ClosedPipe {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("nobody reads stdout any more")
    }
}

impl std::error::Error for ClosedPipe {}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.is::<ClosedPipe>()
}

/// The chain of causes, leaving out what an outer message has said already.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let io = std::io::Error::new(ErrorKind::NotFound, "no such file");
        let error = anyhow::Error::new(io).context("cannot read x: no such file").context("cannot send x");
        assert_eq!(in_one_line(&error), "cannot send x: cannot read x: no such file");
    }
}
