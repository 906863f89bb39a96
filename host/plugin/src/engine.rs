//! The engine: how guests are compiled and bounded, the same for all of them, and the thread behind the backstop.

use crate::bindings::{Plugin, PluginPre};
use crate::cache::Cache;
use crate::component::Component;
use crate::contract;
use crate::digest::Digest;
use crate::error::PluginError;
use crate::limits::Limits;
use crate::sandbox::Sandbox;
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wasmtime::component::{HasSelf, Linker};

/// The finest and the coarsest resolution of the wall-clock backstop: each tick wakes a processor, also of a daemon that has nothing to do.
const TICKS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(250);

/// The resolution for this backstop.
fn tick(backstop: Duration) -> Duration {
    (backstop / 20).clamp(*TICKS.start(), *TICKS.end())
}

/// The version of wasmtime, for the fingerprint. A test compares it with the lock file.
const WASMTIME: &str = "48.0.8";

/// Compiles components and bounds their instances. Cheap to clone; thread-safe.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    wasmtime: wasmtime::Engine,
    linker: Linker<Sandbox>,
    limits: Arc<Limits>,
    cache: Option<Cache>,
    /// Milliseconds that have passed, counted by the ticking thread.
    millis: Arc<AtomicU64>,
}

impl Engine {
    /// Sets up the sandbox. With `cache_dir`, compiled components are kept there and taken from there; the directory is
    /// made if need be and must belong to the daemon alone.
    pub fn new(limits: Limits, cache_dir: Option<PathBuf>) -> Result<Self, PluginError> {
        let failed = |error: wasmtime::Error| PluginError::Engine(format!("{error:#}"));
        let wasmtime = wasmtime::Engine::new(&config(&limits)).map_err(failed)?;
        let mut linker = Linker::new(&wasmtime);
        Plugin::add_to_linker::<_, HasSelf<_>>(&mut linker, |sandbox| sandbox).map_err(failed)?;
        let millis = Arc::default();
        start_ticking(&wasmtime, tick(limits.backstop), Arc::clone(&millis))?;
        let cache = cache_dir.map(|dir| Cache::new(dir, code_fingerprint(&wasmtime)));
        Ok(Self { inner: Arc::new(Inner { wasmtime, linker, limits: Arc::new(limits), cache, millis }) })
    }

    /// Names what results may depend on beside the component: the engine's version and the switches that fix its
    /// semantics. Limits are not part of it, since reaching one gives no result, nor is the processor.
    pub fn fingerprint(&self) -> String {
        format!("wasmtime-{WASMTIME}+nan-canonical+relaxed-simd-deterministic")
    }

    /// The limits that instances get.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Takes a component: checks size, form, imports and exports, compiles exactly these bytes (or finds what it compiled
    /// from them before), and asks for the description. Takes 10-100 ms for a small component, seconds for a big one:
    /// not for the hot path.
    pub fn load(&self, bytes: &[u8]) -> Result<Component, PluginError> {
        let limit = self.inner.limits.component_bytes;
        if bytes.len() > limit {
            let bytes = bytes.len();
            return Err(PluginError::TooLarge { bytes, limit });
        }
        contract::check_form(bytes)?;
        let digest = Digest::of(bytes);
        let code = self.code(bytes, &digest)?;
        contract::check(&self.inner.wasmtime, &code)?;
        let instance = self.inner.linker.instantiate_pre(&code);
        let pre = instance
            .and_then(PluginPre::new)
            .map_err(|error| PluginError::Contract { problem: contract::mismatch(&error) })?;
        Component::describe(self.clone(), digest, pre)
    }

    /// The compiled form, from the cache if it is there.
    fn code(&self, bytes: &[u8], digest: &Digest) -> Result<wasmtime::component::Component, PluginError> {
        let inner = &self.inner;
        if let Some(cache) = &inner.cache
            && let Some(code) = cache.get(&inner.wasmtime, digest)
        {
            return Ok(code);
        }
        let code = compile(&inner.wasmtime, bytes)?;
        if let Some(cache) = &inner.cache {
            cache.put(digest, &code);
        }
        Ok(code)
    }

    pub(crate) fn shared_limits(&self) -> Arc<Limits> {
        self.inner.limits.clone()
    }

    /// A store for one instance.
    pub(crate) fn store(&self, plugin: Arc<str>) -> wasmtime::Store<Sandbox> {
        let sandbox = Sandbox::new(plugin, self.inner.limits.clone(), self.inner.millis.clone());
        let mut store = wasmtime::Store::new(&self.inner.wasmtime, sandbox);
        store.limiter(|sandbox| sandbox);
        store.epoch_deadline_trap();
        store
    }

    /// The backstop in ticks. One more than it takes, since the first tick may come at once.
    pub(crate) fn backstop_ticks(&self) -> u64 {
        let backstop = self.inner.limits.backstop;
        let ticks = backstop.as_millis().div_ceil(tick(backstop).as_millis());
        u64::try_from(ticks).unwrap_or(u64::MAX / 2).saturating_add(1)
    }
}

/// Compiles on all processors, behind others who want them; takes a panic of the compiler as a property of the component.
fn compile(engine: &wasmtime::Engine, bytes: &[u8]) -> Result<wasmtime::component::Component, PluginError> {
    let compilers = rayon::ThreadPoolBuilder::new()
        .thread_name(|number| format!("plugin-compile-{number}"))
        .start_handler(|_| give_way())
        .build()
        .map_err(|error| PluginError::Engine(format!("no threads to compile on: {error}")))?;
    let compile = || wasmtime::component::Component::from_binary(engine, bytes);
    match compilers.install(|| catch_unwind(AssertUnwindSafe(compile))) {
        Ok(Ok(code)) => Ok(code),
        Ok(Err(error)) => Err(PluginError::NotAComponent(format!("{error:#}"))),
        Err(_) => {
            Err(PluginError::NotAComponent("the compiler gave up on it (see the panic message before this one)".into()))
        }
    }
}

/// A lower priority for this thread: a reload must hardly be felt by events on their way, and yet come to an end where they take all processors.
fn give_way() {
    // Where it is not allowed, it takes its turn like everybody else.
    let _ = rustix::process::setpriority_process(None, LESS);
}

/// A nice value: a third of the usual share.
const LESS: i32 = 5;

/// Everything that decides what a guest computes is set here, also where it is wasmtime's default.
fn config(limits: &Limits) -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    // Determinism.
    config
        .cranelift_nan_canonicalization(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(true)
        .relaxed_simd_deterministic(true);
    // What wasmtime is built without stays off (threads, gc, async); these are off although they are built.
    config.wasm_memory64(false).wasm_custom_page_sizes(false);
    // Compute: fuel decides, the epoch only ends what fuel does not see.
    config.consume_fuel(true).epoch_interruption(true);
    config.max_wasm_stack(limits.stack_bytes);
    // Memory: 4 GiB are reserved and guarded, so no access needs a bounds check and growth never moves anything.
    config
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .guard_before_linear_memory(true)
        .memory_may_move(false);
    config.cranelift_opt_level(wasmtime::OptLevel::Speed);
    config
}

/// Starts the thread that moves the epoch on; it ends with the engine and everything made by it. A thread of the operating
/// system and not a task, because a runtime whose workers are all stuck in guests would not run the task.
fn start_ticking(engine: &wasmtime::Engine, tick: Duration, millis: Arc<AtomicU64>) -> Result<(), PluginError> {
    let weak = engine.weak();
    let each = tick.as_millis() as u64;
    std::thread::Builder::new()
        .name("plugin-backstop".into())
        .spawn(move || {
            loop {
                std::thread::sleep(tick);
                millis.fetch_add(each, Ordering::Relaxed);
                match weak.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })
        .map(drop)
        .map_err(|error| PluginError::Engine(format!("no thread for the backstop: {error}")))
}

/// Names what compiled code depends on: engine version, its configuration, and this processor's features.
fn code_fingerprint(engine: &wasmtime::Engine) -> String {
    let mut hasher = Blake3Hasher(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finalize().to_hex()[..16].to_owned()
}

/// BLAKE3 as a `Hasher`: the standard one promises nothing across versions of Rust.
struct Blake3Hasher(blake3::Hasher);

impl Hasher for Blake3Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_names_the_wasmtime_that_is_linked() {
        let lock = include_str!("../../../Cargo.lock");
        let linked = format!("name = \"wasmtime\"\nversion = \"{WASMTIME}\"\n");
        assert!(lock.contains(&linked), "WASMTIME in engine.rs is out of date");
    }

    #[test]
    fn the_code_fingerprint_is_the_same_for_equal_engines_and_differs_for_others() {
        let engine = |stack_bytes| {
            let limits = Limits { stack_bytes, ..Limits::default() };
            wasmtime::Engine::new(&config(&limits)).unwrap()
        };
        let a = code_fingerprint(&engine(256 << 10));
        assert_eq!(a, code_fingerprint(&engine(256 << 10)));
        let mut other = config(&Limits::default());
        other.consume_fuel(false);
        assert_ne!(a, code_fingerprint(&wasmtime::Engine::new(&other).unwrap()));
    }

    #[test]
    fn only_the_thread_that_gives_way_does() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        let of_it = std::thread::spawn(move || {
            give_way();
            priority()
        });
        assert_eq!((of_it.join().unwrap(), priority()), (LESS, before));
    }

    #[test]
    fn the_backstop_never_rounds_down_to_nothing() {
        let engine = |backstop| Engine::new(Limits { backstop, ..Limits::default() }, None).unwrap();
        assert_eq!(engine(Duration::ZERO).backstop_ticks(), 1);
        assert_eq!(engine(Duration::from_millis(11)).backstop_ticks(), 3);
        assert!(engine(Duration::MAX).backstop_ticks() > 1 << 60);
    }
}
