//! `tally plugin new`, `build`, `test` and `bench`: what plugin authors work with. Says what the kit and the daemon's own check find.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use tally_daemon::plugins::check::PluginFacts;
use tally_kit::build::Project;
use tally_kit::laws::{self, Given, Verdict};
use tally_kit::samples::{self, Outcome, Samples};
use tally_kit::{Law, Subject, bench, project};

use crate::outcome::{Usage, print};
use crate::render::{Output, Paint, answer};

/// What is said when the laws hold, but no event got as far as to try them.
const VACUOUS: &str = "warning: not one event was applied, so the laws were tried on empty states only and what they say is next to nothing; \
                       give events that it counts: --events FILE";

/// The sample events of a project.
const EVENTS: &str = "events.ndjson";

/// What `tally plugin new` is told.
#[derive(Debug, clap::Args)]
pub struct New {
    /// The plugin's name: lower-case letters, digits and hyphens
    name: String,
    /// The new project's folder; without it, one of the plugin's name
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A folder with Tally's sources whose SDK to use, instead of writing the SDK into the project
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

/// What `tally plugin build` is told.
#[derive(Debug, clap::Args)]
pub struct Build {
    /// The project
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Put the component into this folder, such as a daemon's plugins directory; without it, into the project's target folder
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Settings to check it with, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    settings: String,
    /// What the report looks like
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What `tally plugin test` is told.
#[derive(Debug, clap::Args)]
pub struct Test {
    /// A Rust project, or a component in any language
    #[arg(default_value = ".", value_name = "DIR|FILE.wasm")]
    what: PathBuf,
    /// Sample events, one JSON object a line; of a project, its events.ndjson
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Settings for it, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    settings: String,
    /// Write what is reported of the sample events into golden/, instead of comparing with it
    #[arg(long)]
    bless: bool,
    /// Seed of the random events: the same number makes the same
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many cases of random events
    #[arg(long, value_name = "N", default_value_t = 200)]
    cases: usize,
    /// What the report looks like
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What `tally plugin bench` is told.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// A Rust project, or a component in any language
    #[arg(default_value = ".", value_name = "DIR|FILE.wasm")]
    what: PathBuf,
    /// Recorded events to measure with, one JSON object a line; without it, random ones of the fields it declares
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Settings for it, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    settings: String,
    /// For how long to measure
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    seconds: f64,
    /// Seed of the random events: the same number makes the same
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// What the report looks like
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Writes a project, and says what comes next.
pub fn new(args: &New) -> anyhow::Result<()> {
    project::check_name(&args.name).map_err(Usage)?;
    let folder = args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    let files = project::create(&args.name, &folder, args.sdk.as_deref())?;
    let mut text = format!("made {} with\n", folder.display());
    for file in files {
        writeln!(text, "  {}", file.display())?;
    }
    if args.sdk.is_none() {
        text += "  sdk/\n";
    }
    print(&format!("{text}\nnext:\n  cd {}\n  tally plugin test\n", folder.display()))
}

/// A component and where it came from.
#[derive(Serialize)]
struct Built {
    path: PathBuf,
    size: usize,
    digest: String,
    name: String,
    version: String,
}

/// Builds, checks, puts the component where it belongs.
pub fn build(args: &Build) -> anyhow::Result<()> {
    let (path, facts) = built(&Project::open(&args.dir)?, args.into.as_deref(), &args.settings)?;
    let built = Built { path, size: facts.size, digest: facts.digest, name: facts.name, version: facts.version };
    print(&answer(&serde_json::to_value(built)?, args.output, Paint::stdout()))
}

fn built(project: &Project, into: Option<&Path>, settings: &str) -> anyhow::Result<(PathBuf, PluginFacts)> {
    let bytes = project.build()?;
    let folder = into.unwrap_or(&project.target);
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    // Under a hidden name first: a daemon that watches the folder sees the whole component or none.
    let hidden = folder.join(format!(".{}.wasm.new", project.name));
    std::fs::write(&hidden, &bytes).with_context(|| format!("cannot write {}", hidden.display()))?;
    let facts = tally_daemon::plugins::check::check(&hidden, settings);
    let facts = match facts {
        Ok(facts) => facts,
        Err(error) => {
            let _ = std::fs::remove_file(&hidden);
            return Err(error.context(format!("{} was built, but no daemon would take it", project.name)));
        }
    };
    let path = folder.join(format!("{}.wasm", project.name));
    std::fs::rename(&hidden, &path).with_context(|| format!("cannot replace {}", path.display()))?;
    Ok((path, facts))
}

/// What a test found; what was not done is absent.
#[derive(Serialize)]
struct Tested {
    /// Whether the project's own tests pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit_tests: Option<&'static str>,
    component: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<Sampled>,
    laws: Verdict,
}

#[derive(Serialize)]
struct Sampled {
    file: PathBuf,
    applied: usize,
    refused: Value,
    not_subscribed: usize,
    rejected: Value,
    golden: PathBuf,
    /// `equal`, `written`, `none`, `different`, or `failed`: there is no report.
    compared: &'static str,
    /// Where it differs, or why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<String>,
}

/// Runs everything there is to run, prints all of it, and fails if anything failed.
pub fn test(args: &Test) -> anyhow::Result<ExitCode> {
    let (component, project) = component(&args.what, &args.settings, true)?;
    let bytes = std::fs::read(&component).with_context(|| format!("cannot read {}", component.display()))?;
    let subject =
        Subject::load(&bytes, &args.settings).with_context(|| format!("{} would not be taken", component.display()))?;
    let own = project.as_ref().map(|project| project.folder.join(EVENTS)).filter(|file| file.is_file());
    let events = args.events.clone().or(own);
    let (sampled, lines) = match &events {
        None if args.bless => {
            return Err(Usage(anyhow::anyhow!("--bless needs sample events: name them with --events")).into());
        }
        None => (None, Vec::new()),
        Some(file) => {
            let (sampled, lines) = sampled(&subject, file, args.bless)?;
            (Some(sampled), lines)
        }
    };
    if lines.is_empty() && args.cases == 0 {
        let nothing =
            "--cases 0 without a sample event leaves nothing to try; name some with --events, or ask for more cases";
        return Err(Usage(anyhow::anyhow!(nothing)).into());
    }
    let laws = laws::check(&subject, &lines, args.seed, args.cases);
    let unit_tests = project.map(|_| "passed");
    let tested = Tested { unit_tests, component, samples: sampled, laws };
    print(&match args.output {
        Output::Json => format!("{}\n", serde_json::to_value(&tested)?),
        Output::Table => told(&tested),
    })?;
    let compared = tested.samples.as_ref().map_or("none", |sampled| sampled.compared);
    let is_broken = !tested.laws.broken.is_empty();
    if tested.laws.is_vacuous() && !is_broken {
        // Whoever does not read that has the numbers.
        let _ = writeln!(std::io::stderr(), "{VACUOUS}");
    }
    ensure!(compared != "failed", "the sample events cannot be applied");
    ensure!(
        compared != "different" || is_broken,
        "the report differs from the golden one; --bless writes it anew if it should"
    );
    if !tested.laws.broken.is_empty() {
        let names: Vec<&str> = tested.laws.broken.iter().map(|finding| finding.law.name()).collect();
        bail!("broken: {}; a daemon's numbers could not be relied on", names.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

/// The component itself, or that of a project, built now, after its own tests where these are wanted.
fn component(what: &Path, settings: &str, with_tests: bool) -> anyhow::Result<(PathBuf, Option<Project>)> {
    if what.is_file() {
        return Ok((what.to_owned(), None));
    }
    let project = Project::open(what)?;
    if with_tests {
        project.test()?;
    }
    let (path, _) = built(&project, None, settings)?;
    Ok((path, Some(project)))
}

fn sampled(subject: &Subject, file: &Path, bless: bool) -> anyhow::Result<(Sampled, Vec<String>)> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let samples = Samples::read(subject, &bytes);
    let applied = samples::apply(subject, &samples.events);
    let stem = file.file_stem().unwrap_or_default();
    let golden = file.with_file_name("golden").join(stem).with_extension("txt");
    let (outcome, (compared, difference)) = match applied {
        Ok(outcome) => {
            let compared = compared(&golden, &outcome.golden(&samples.rejected), bless)?;
            (outcome, compared)
        }
        Err(error) => (Outcome::default(), ("failed", Some(format!("{error:#}")))),
    };
    let sampled = Sampled {
        file: file.to_owned(),
        applied: outcome.applied,
        refused: json!(outcome.refused),
        not_subscribed: outcome.not_subscribed,
        rejected: json!(samples.rejected),
        golden,
        compared,
        difference,
    };
    Ok((sampled, samples.events))
}

/// Compares with the golden report, or writes it.
fn compared(golden: &Path, found: &str, bless: bool) -> anyhow::Result<(&'static str, Option<String>)> {
    if bless {
        let folder = golden.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        std::fs::write(golden, found).with_context(|| format!("cannot write {}", golden.display()))?;
        return Ok(("written", None));
    }
    match std::fs::read_to_string(golden) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(("none", None)),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", golden.display())),
        Ok(expected) => match samples::difference(&expected, found) {
            None => Ok(("equal", None)),
            difference => Ok(("different", difference)),
        },
    }
}

/// The findings for people.
fn told(tested: &Tested) -> String {
    let mut text = String::new();
    if let Some(outcome) = tested.unit_tests {
        text += &format!("unit tests: {outcome}\n");
    }
    text += &format!("component: {}\n", tested.component.display());
    match &tested.samples {
        None => text += "samples: none; name some with --events\n",
        Some(sampled) => text += &told_samples(sampled),
    }
    let Verdict { tried, broken, sample_cases, random_cases, seed, left_out, not_judged, .. } = &tested.laws;
    let Verdict { sample_events, random_events, .. } = &tested.laws;
    text += &format!(
        "laws: {} of {} hold, on {sample_cases} cases of the samples and {random_cases} random ones (seed {seed})\n",
        tried.len() - broken.len(),
        tried.len()
    );
    let given = |given: &Given| format!("{} of {}", given.applied, given.events);
    text +=
        &format!("  applied: {} events of the samples, {} random ones\n", given(sample_events), given(random_events));
    let names = |laws: &[Law]| laws.iter().map(|law| law.name()).collect::<Vec<_>>().join(", ");
    if !left_out.is_empty() {
        text += &format!("  not asked of an aggregator whose ordering is log-order: {}\n", names(left_out));
    }
    if !not_judged.is_empty() {
        text += &format!("  nothing can be said of the others before that holds: {}\n", names(not_judged));
    }
    for finding in broken {
        text += &format!("\nbroken: {}\n  it means: {}\n  but {}\n", finding.law.name(), finding.means, finding.says);
        text += &match finding.events.len() {
            0 => "  without any event\n".to_owned(),
            1 => format!("  by this event ({}):\n", finding.from),
            n => format!("  by these {n} events ({}), of which none can be left out:\n", finding.from),
        };
        for shown in &finding.events {
            text += format!("    {} {}", shown.part, shown.event).trim_end();
            text.push('\n');
        }
    }
    text
}

fn told_samples(sampled: &Sampled) -> String {
    if sampled.compared == "failed" {
        let why = sampled.difference.as_deref().unwrap_or("?");
        return format!("samples: {} cannot be applied: {why}\n", sampled.file.display());
    }
    let mut text = format!("samples: {}: {} applied", sampled.file.display(), sampled.applied);
    for (reason, count) in sampled.refused.as_object().into_iter().flatten() {
        text += &format!(", {count} refused ({reason})");
    }
    if sampled.not_subscribed > 0 {
        text += &format!(", {} of other types", sampled.not_subscribed);
    }
    for line in sampled.rejected.as_array().into_iter().flatten() {
        text += &format!(", line {} rejected ({})", line[0], line[1].as_str().unwrap_or("?"));
    }
    let golden = sampled.golden.display();
    text += &match sampled.compared {
        "equal" => format!("\ngolden report: {golden} is what it reports\n"),
        "written" => format!("\ngolden report: {golden} is written\n"),
        "none" => format!("\ngolden report: none; --bless writes {golden}\n"),
        _ => format!("\ngolden report: {golden} differs, {}\n", sampled.difference.as_deref().unwrap_or("?")),
    };
    text
}

/// Measures, and prints.
pub fn bench(args: &Bench) -> anyhow::Result<()> {
    let (component, project) = component(&args.what, &args.settings, false)?;
    let bytes = std::fs::read(&component).with_context(|| format!("cannot read {}", component.display()))?;
    let subject =
        Subject::load(&bytes, &args.settings).with_context(|| format!("{} would not be taken", component.display()))?;
    let read = |file: &Path| {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        anyhow::Ok(Samples::read(&subject, &bytes))
    };
    let Samples { events, rejected } = match &args.events {
        Some(file) => read(file)?,
        None => {
            let own = project.map(|project| project.folder.join(EVENTS)).filter(|file| file.is_file());
            let samples = own.map_or(Ok(Samples::default()), |file| read(&file))?;
            Samples { events: bench::generated(&subject, &samples.events, args.seed), rejected: Vec::new() }
        }
    };
    let seconds = Duration::try_from_secs_f64(args.seconds)
        .map_err(|error| Usage(anyhow::anyhow!("--seconds {}: {error}", args.seconds)))?;
    let measured = bench::measure(&subject, &events, seconds)?;
    if measured.applied * 2 < measured.events {
        let remark = "most of these events were refused or not asked for, which costs less than counting them; \
                      measure with recorded ones: --events FILE";
        // Whoever does not read that has the numbers.
        let _ = writeln!(std::io::stderr(), "{remark}");
    }
    let mut measured = serde_json::to_value(measured)?;
    measured["events_are"] = if args.events.is_some() { "recorded" } else { "generated" }.into();
    // Lines of the file that are no events; they are not measured with.
    measured["rejected"] = rejected.len().into();
    let value = match args.output {
        Output::Json => measured,
        Output::Table => rounded(measured),
    };
    print(&answer(&value, args.output, Paint::stdout()))
}

/// Three digits are all that a time is good for.
fn rounded(measured: Value) -> Value {
    let Value::Object(members) = measured else { return measured };
    let round = |value: Value| match value.as_f64() {
        Some(number) if value.is_f64() && number >= 100.0 => json!(number.round() as i64),
        Some(number) if value.is_f64() => json!((number * 100.0).round() / 100.0),
        _ => value,
    };
    members.into_iter().map(|(name, value)| (name, round(value))).collect()
}
