//! What is sent behind a pooler: a statement without a name, with the types of its values, so that one message says all
//! and any connection of the server can answer it. PgBouncer before 1.21 knows no other in transaction mode.
//!
//! The types are those that the server finds in the text, asked for once.

use crate::error::Error;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, SimpleQueryMessage};

/// Values of a statement, in the order of their numbers.
pub type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The same with their types.
type Typed<'a> = Vec<(&'a (dyn ToSql + Sync), Type)>;

/// Types of the values of each statement that was sent. Cheap to clone; all clones know the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Types(Arc<Mutex<HashMap<String, Arc<[Type]>>>>);

impl Types {
    /// The values of a statement, with the types they are sent as.
    pub async fn of<'a>(&self, client: &Client, sql: &str, values: Values<'a>) -> Result<Typed<'a>, Error> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        let types = match known {
            Some(types) => types,
            None => {
                let types: Arc<[Type]> = asked(client, sql).await?.into();
                self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(sql.to_owned(), types.clone());
                types
            }
        };
        zipped(values, &types)
    }
}

/// # Errors
/// When there are more values than the statement has numbers, or fewer.
pub(super) fn zipped<'a>(values: Values<'a>, types: &[Type]) -> Result<Typed<'a>, Error> {
    if values.len() != types.len() {
        return Err(Error::Strange("a statement"));
    }
    Ok(values.iter().copied().zip(types.iter().cloned()).collect())
}

/// Which types the server takes a statement's values for. One message, which is one transaction: a pooler sends all of
/// it to one connection, and nothing is left there.
pub(super) async fn asked(client: &Client, sql: &str) -> Result<Vec<Type>, Error> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let (at, number) = (mainstay_runtime::Clock::unix_micros(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let name = format!("mainstay_{at:x}_{number}");
    let question = format!(
        "PREPARE {name} AS {sql}; SELECT unnest(parameter_types)::oid FROM pg_prepared_statements \
         WHERE name = '{name}'; DEALLOCATE {name}"
    );
    let mut types = Vec::new();
    for message in client.simple_query(&question).await? {
        if let SimpleQueryMessage::Row(row) = message {
            let oid = row.try_get(0)?.and_then(|oid| oid.parse().ok());
            types.push(oid.and_then(Type::from_oid).ok_or(Error::Strange("pg_prepared_statements"))?);
        }
    }
    Ok(types)
}
