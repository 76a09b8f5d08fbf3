//! Mainstay's own `tracing` events as lines. Never on a core: there, records are all that is written.

use crate::{Handle, Level, Line};
use mainstay_runtime::Clock;
use serde_json::Value;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Our crates' names begin so; what others say below a warning is their own affair.
const OURS: &str = "mainstay";

/// Give it to `tracing_subscriber::registry().with(…)`.
#[derive(Debug)]
pub struct OwnLog {
    handle: Handle,
    level: LevelSwitch,
}

/// Changes the level while running. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LevelSwitch(Arc<AtomicU8>);

impl LevelSwitch {
    pub fn new(level: Level) -> LevelSwitch {
        LevelSwitch(Arc::new(AtomicU8::new(level as u8)))
    }

    pub fn set(&self, level: Level) {
        self.0.store(level as u8, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    pub fn get(&self) -> Level {
        Level::from_index(self.0.load(Ordering::Relaxed))
    }
}

impl OwnLog {
    pub fn new(handle: Handle, level: LevelSwitch) -> OwnLog {
        OwnLog { handle, level }
    }

    fn is_wanted(&self, metadata: &Metadata<'_>) -> bool {
        let level = level_of(metadata);
        level <= self.level.get() && (level <= Level::Warn || metadata.target().starts_with(OURS))
    }
}

fn level_of(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

impl<S: Subscriber> Layer<S> for OwnLog {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_event() && self.is_wanted(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.is_event() && self.is_wanted(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.level.get() {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Line::own(Clock::unix_micros(), level_of(metadata), "");
        event.record(&mut Fields(&mut line));
        if !metadata.target().starts_with(OURS) {
            line.fields.push(("target".to_owned(), metadata.target().into()));
        }
        self.handle.line(line);
    }
}

/// `app` and `instance` say whom the line is about; the rest are fields.
struct Fields<'a>(&'a mut Line);

impl Fields<'_> {
    fn take(&mut self, field: &Field, value: Value) {
        let text = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match field.name() {
            "message" => self.0.text = text(),
            "app" => self.0.app = text().into(),
            "instance" => self.0.instance = text().into(),
            name => self.0.fields.push((name.to_owned(), value)),
        }
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value.into());
    }

    /// With its chain, as a person needs it.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        self.take(field, text.into());
    }
}
