//! `[store]`: where things are kept. A variable says how a store is reached, never which one is used.

use crate::{postgres, redis};
use mainstay_config::{Reader, Table};

/// Where limits, sessions and rooms are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// In each process alone.
    Memory,
    Redis,
}

/// Where the journal, accounts and jobs are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Lasting {
    /// A file of the data folder.
    Sqlite,
    Postgres(Box<postgres::Options>),
}

impl Lasting {
    /// The same store, wherever in the file it is named.
    pub fn is_same(&self, other: &Lasting) -> bool {
        match (self, other) {
            (Lasting::Postgres(one), Lasting::Postgres(other)) => {
                postgres::Options { at: one.at.clone(), ..(**other).clone() } == **one
            }
            (one, other) => one == other,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub durable: Lasting,
    pub shared: Shared,
    /// Known whenever an address is, used or not: health asks it, and a block may be told to use it by itself.
    pub redis: Option<redis::Options>,
}

impl Options {
    pub fn read(reader: &Reader) -> Options {
        let table =
            reader.table("store").doc("Where Mainstay keeps what it must not forget, and what instances share.");
        let durable = lasting(reader, &table);
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
        Options { durable, shared, redis }
    }
}

fn lasting(reader: &Reader, table: &Table) -> Lasting {
    let durable = table
        .key("durable")
        .doc("Where the journal, accounts and jobs are kept: a sqlite file of the data folder, or postgres")
        .choice(&["sqlite", "postgres"], "sqlite");
    let wanted = *durable == "postgres";
    match postgres::Options::read(reader, wanted) {
        Some(options) if wanted => Lasting::Postgres(Box::new(options)),
        None if wanted => {
            let expected = "an address in [store.postgres] or in DATABASE_URL";
            table.fault(
                &durable.at,
                "durable = \"postgres\" names no server",
                expected,
                Some("DATABASE_URL=postgres://…"),
            );
            Lasting::Sqlite
        }
        _ => Lasting::Sqlite,
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
    fn a_store_must_be_asked_for_and_must_have_an_address() {
        let both = [("REDIS_URL", "redis://cache"), ("DATABASE_URL", "postgres://db/app?sslmode=nonsense")];
        let (options, faults) = read("", &both);
        assert!(faults.is_empty() && options.shared == Shared::Memory && options.redis.is_some(), "{faults:?}");
        assert_eq!(options.durable, Lasting::Sqlite);
        let (_, faults) = read("[store]\nshared = \"redis\"\ndurable = \"postgres\"\n", &[]);
        assert_eq!(faults.len(), 2, "{faults:?}");
        let addresses = [("REDIS_HOST", "r"), ("DATABASE_URL", "postgres://db/app")];
        let (options, faults) = read("[store]\nshared = \"redis\"\ndurable = \"postgres\"\n", &addresses);
        assert!(faults.is_empty() && options.shared == Shared::Redis, "{faults:?}");
        assert!(matches!(options.durable, Lasting::Postgres(_)));
        // A line more above it is no other store, another host is.
        let file = |lines: &str, host: &str| {
            format!("{lines}[store]\ndurable = \"postgres\"\n[store.postgres]\nurl = \"postgres://{host}/app\"\n")
        };
        let store = |lines: &str, host: &str| read(&file(lines, host), &[]).0.durable;
        assert!(store("", "a").is_same(&store("\n", "a")) && !store("", "a").is_same(&store("", "b")));
    }
}
