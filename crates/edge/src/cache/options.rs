//! What the file says about the cache: `[edge.cache]`, and of a `[[route]]` the keys that concern it.

use super::counts::Counts;
use super::key::Parts;
use super::policy::Defaults;
use super::store::Store;
use mainstay_config::{Item, Table, Value, units};
use std::sync::Arc;
use std::time::Duration;

/// Smallest room; below it a single page would not fit.
const SIZE_BYTES_MIN: u64 = 1 << 20;
/// An answer on its way may take a quarter of the room, so that is the most one may have.
const OBJECT_SHARE: u64 = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Room for all that is stored, in bytes, with what keeping it costs.
    pub size: u64,
    /// Largest body that is stored.
    pub object: u64,
}

/// One route's words; what is not said is left to less specific routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteOptions {
    pub on: Option<bool>,
    /// How long an answer is fresh that says nothing about it.
    pub fresh: Option<Duration>,
    pub parts: Option<Parts>,
    pub stale_while_revalidate: Option<Duration>,
    pub stale_if_error: Option<Duration>,
}

impl Options {
    pub fn read(edge: &Table) -> Options {
        let t = edge.table("cache").doc("The response cache; routes turn it on for themselves");
        let size = t.key("size").doc("Room for all stored answers together").size("64MiB");
        let object = t.key("object").doc("Largest answer that is stored").size("1MiB");
        if size.value < SIZE_BYTES_MIN {
            t.fault(&size.at, "less room than one page may need", "at least \"1MiB\"", None);
        } else if object.value > size.value / OBJECT_SHARE {
            let what = "one answer may take more than a quarter of the room";
            t.fault(&object.at, what, "a size of at most a quarter of edge.cache.size", None);
        }
        Options { size: size.value, object: object.value }
    }
}

impl RouteOptions {
    pub fn read(t: &Table) -> RouteOptions {
        let mut route = RouteOptions::default();
        let cache = t.key("cache").doc("true: store answers that say for how long; \"60s\": also those that do not");
        if let Some(cache) = cache.example("\"60s\"").value() {
            read_cache(t, &cache, &mut route);
        }
        let key = t.key("cache_key").doc("What tells answers apart beside scheme, host and path; else the whole query");
        if let Some(list) = key.example("[\"query:page\", \"header:accept-language\"]").opt_texts() {
            route.parts = Some(read_parts(t, &list.value));
        }
        route.stale_while_revalidate = t
            .key("stale_while_revalidate")
            .doc("How long a stale answer is given out while it is asked for anew, where the app says nothing")
            .opt_duration()
            .map(|d| d.value);
        route.stale_if_error = t
            .key("stale_if_error")
            .doc("How long a stale answer is given out where the app fails, where the app says nothing")
            .opt_duration()
            .map(|d| d.value);
        route
    }
}

fn read_cache(t: &Table, cache: &Item<Value>, route: &mut RouteOptions) {
    const EXPECTED: &str = "true, false, or how long an answer is fresh that says nothing: \"60s\"";
    match &cache.value {
        Value::Boolean(on) => route.on = Some(*on),
        Value::Text(text) => match units::duration(text) {
            Ok(fresh) => (route.on, route.fresh) = (Some(true), Some(fresh)),
            Err(what) => t.fault(&cache.at, format!("`{text}` {what}"), EXPECTED, None),
        },
        _ => t.fault(&cache.at, "not a freshness", EXPECTED, None),
    }
}

fn read_parts(t: &Table, list: &[Item<String>]) -> Parts {
    const EXPECTED: &str = "\"query\" (all of it), \"query:NAME\" or \"header:NAME\"";
    let (mut query, mut headers, mut whole) = (Vec::new(), Vec::new(), false);
    for item in list {
        match item.value.split_once(':') {
            None if item.value == "query" => whole = true,
            Some(("query", name)) if !name.is_empty() => query.push(name.to_owned()),
            Some(("header", name)) if !name.is_empty() => headers.push(name.to_ascii_lowercase()),
            _ => t.fault(&item.at, format!("`{}` is no part of a request", item.value), EXPECTED, None),
        }
    }
    if headers.len() > super::key::NAMES_MAX {
        let what = format!("more than {} headers", super::key::NAMES_MAX);
        t.fault(&list[0].at, what, "fewer: each multiplies what is stored", None);
    }
    Parts { query: (!whole).then_some(query), headers }
}

/// What holds for one request once all matching routes have spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub on: bool,
    pub defaults: Defaults,
    /// In `Rules`; 0 = the whole query and no header.
    parts: u16,
    counts: u16,
}

/// One route's part of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    on: Option<bool>,
    fresh_s: Option<Option<u32>>,
    stale_while_revalidate_s: Option<u32>,
    stale_if_error_s: Option<u32>,
    parts: Option<u16>,
    counts: u16,
}

/// The cache's part of a snapshot.
#[derive(Debug, Default)]
pub struct Rules {
    /// Some route caches.
    pub on: bool,
    parts: Vec<Arc<Parts>>,
    counts: Vec<Arc<Counts>>,
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

impl Rules {
    /// Takes in one route; `name` is its number in `Names`.
    pub fn layer(&mut self, store: &Store, route: &RouteOptions, name: u32) -> Layer {
        self.on |= route.on == Some(true);
        let mut layer = Layer {
            on: route.on,
            // `cache = true` after a less specific `cache = "60s"` takes the freshness back.
            fresh_s: route.on.map(|_| route.fresh.map(seconds)),
            stale_while_revalidate_s: route.stale_while_revalidate.map(seconds),
            stale_if_error_s: route.stale_if_error.map(seconds),
            ..Layer::default()
        };
        if let Some(parts) = &route.parts {
            self.parts.push(Arc::new(parts.clone()));
            layer.parts = u16::try_from(self.parts.len()).ok();
        }
        if route.on == Some(true) {
            self.counts.push(store.counts.of(name));
            layer.counts = u16::try_from(self.counts.len() - 1).unwrap_or(u16::MAX);
        }
        layer
    }

    pub fn parts(&self, rule: Rule) -> Option<&Arc<Parts>> {
        self.parts.get(usize::from(rule.parts).checked_sub(1)?)
    }

    pub fn counts(&self, rule: Rule) -> Option<&Arc<Counts>> {
        self.counts.get(usize::from(rule.counts)).or(self.counts.last())
    }
}

impl Layer {
    pub fn lay(&self, rule: &mut Rule) {
        if let Some(on) = self.on {
            (rule.on, rule.counts) = (on, self.counts);
        }
        rule.defaults.fresh_s = self.fresh_s.unwrap_or(rule.defaults.fresh_s);
        let defaults = &mut rule.defaults;
        defaults.stale_while_revalidate_s = self.stale_while_revalidate_s.unwrap_or(defaults.stale_while_revalidate_s);
        defaults.stale_if_error_s = self.stale_if_error_s.unwrap_or(defaults.stale_if_error_s);
        rule.parts = self.parts.unwrap_or(rule.parts);
    }
}
