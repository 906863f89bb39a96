//! The simulation at the sizes for every day, what it once showed, and that a seed decides everything. Components are found by the
//! variables that `cargo xtask test` sets; without them nothing can run, and each test says so.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::Parser as _;
use tally_sim::cli::{self, Cli};
use tally_sim::runs;
use tally_sim::world::{Kit, World};

static KIT: LazyLock<Option<Kit>> = LazyLock::new(|| {
    let folder = |name| std::env::var_os(name).map(PathBuf::from);
    let folders = [folder("TALLY_BUILT_PLUGINS_DIR")?, folder("TALLY_FIXTURES_DIR")?];
    Some(cli::kit(&folders).expect("the components that `cargo xtask test` builds"))
});

fn kit() -> Option<&'static Kit> {
    let kit = KIT.as_ref();
    if kit.is_none() {
        eprintln!("skipped: TALLY_BUILT_PLUGINS_DIR and TALLY_FIXTURES_DIR are not set; `cargo xtask test` sets them");
    }
    kit
}

/// As `cargo xtask sim` with these arguments.
fn parsed(arguments: &str) -> Cli {
    let words = std::iter::once("sim").chain(arguments.split_whitespace());
    Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

#[test]
fn nothing_is_violated_and_everything_is_reached() {
    let Some(kit) = kit() else { return };
    assert!(parsed("").with_sizes().run(kit), "see the violations above");
}

#[test]
fn what_was_once_violated_is_not_any_more() {
    let Some(kit) = kit() else { return };
    let lines = include_str!("../regressions.txt").lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let (arguments, showed) = line.split_once('#').expect("arguments # what they once showed");
        assert!(parsed(arguments).run(kit), "{arguments}: {showed}");
    }
}

#[test]
fn a_seed_decides_everything() {
    let Some(kit) = kit() else { return };
    let mut digests = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let world =
            || World::new(kit, seed, runs::BY_CHANCE).and_then(World::run).map_err(|error| format!("{error:#}"));
        let (first, second) = (world(), world());
        let known = |world: &Result<tally_sim::world::Report, String>| {
            world.as_ref().map(|report| (report.digest, report.counts.clone())).map_err(Clone::clone)
        };
        assert_eq!(known(&first), known(&second), "seed {seed}");
        digests.extend(first.ok().map(|report| report.digest));
    }
    assert!(digests.len() > 15, "{} of 20 worlds ended in peace, each with a disk of its own", digests.len());
}

#[test]
fn the_sizes_are_what_is_said_of_them() {
    assert_eq!(parsed("").with_sizes().seeds, Some(0..1000));
    assert_eq!(parsed("--seeds 5..6").with_sizes().flips, None);
    assert_eq!(parsed("--record").with_sizes().seeds, Some(0..100_000));
    assert!(Cli::try_parse_from(["sim", "--record", "--seeds", "0..1"]).is_err());
}
