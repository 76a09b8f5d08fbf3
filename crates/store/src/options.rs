//! `[store]`: where things are kept. A variable says how a store is reached, never which one is used.

use crate::redis;
use mainstay_config::Reader;

/// Where limits, sessions and rooms are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// In each process alone.
    Memory,
    Redis,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub shared: Shared,
    /// Known whenever an address is, used or not: health asks it, and a block may be told to use it by itself.
    pub redis: Option<redis::Options>,
}

impl Options {
    pub fn read(reader: &Reader) -> Options {
        let table =
            reader.table("store").doc("Where Mainstay keeps what it must not forget, and what instances share.");
        let shared = table
            .key("shared")
            .doc("Where limits, sessions and rooms are kept: memory of this process, or redis")
            .choice(&["memory", "redis"], "memory");
        let redis = redis::Options::read(reader);
        if *shared == "redis" && redis.is_none() {
            let expected = "an address in [store.redis] or in REDIS_URL";
            table.fault(&shared.at, "shared = \"redis\" names no server", expected, Some("REDIS_URL=redis://…"));
        }
        let shared = if *shared == "redis" { Shared::Redis } else { Shared::Memory };
        Options { shared, redis }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_config::{Inputs, Text};

    fn read(file: &str, environment: &[(&str, &str)]) -> (Options, Vec<String>) {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let file = Some(Text { path: "mainstay.toml".into(), text: file.to_owned() });
        let reader = Reader::new(&Inputs { environment, file, ..Inputs::default() });
        let options = Options::read(&reader);
        (options, reader.finish().faults.iter().map(|fault| fault.what.clone()).collect())
    }

    #[test]
    fn redis_must_be_asked_for_and_must_have_an_address() {
        let (options, faults) = read("", &[("REDIS_URL", "redis://cache")]);
        assert!(faults.is_empty() && options.shared == Shared::Memory && options.redis.is_some());
        let (_, faults) = read("[store]\nshared = \"redis\"\n", &[]);
        assert_eq!(faults, ["shared = \"redis\" names no server"]);
        let (options, faults) = read("[store]\nshared = \"redis\"\n", &[("REDIS_HOST", "r")]);
        assert!(faults.is_empty() && options.shared == Shared::Redis, "{faults:?}");
    }
}
