//! A connection of the pool, and a transaction on it. A statement is asked by its text: without a pooler it is known to
//! the connection from its second time on, behind one it is sent whole each time.

use super::typed::{Types, Values};
use crate::error::Error;
use tokio_postgres::{IsolationLevel, Row};

/// A connection; it goes back when dropped.
pub struct Client {
    inner: deadpool_postgres::Client,
    /// Behind a pooler.
    types: Option<Types>,
}

/// Taken back when dropped without [`Transaction::commit`].
pub struct Transaction<'a> {
    inner: deadpool_postgres::Transaction<'a>,
    types: Option<&'a Types>,
}

impl Client {
    pub(super) fn new(inner: deadpool_postgres::Client, types: Option<Types>) -> Client {
        Client { inner, types }
    }

    /// # Errors
    /// When the server cannot be reached.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        Ok(Transaction { inner: self.inner.transaction().await?, types: self.types.as_ref() })
    }

    /// One that writes nothing and sees everything as of one moment.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn snapshot(&mut self) -> Result<Transaction<'_>, Error> {
        let builder = self.inner.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        Ok(Transaction { inner: builder.start().await?, types: self.types.as_ref() })
    }

    fn client(&self) -> &tokio_postgres::Client {
        &self.inner
    }

    fn types(&self) -> Option<&Types> {
        self.types.as_ref()
    }
}

impl Transaction<'_> {
    /// # Errors
    /// That nothing was committed; where the connection was lost meanwhile it is not known.
    pub async fn commit(self) -> Result<(), Error> {
        Ok(self.inner.commit().await?)
    }

    fn client(&self) -> &tokio_postgres::Client {
        self.inner.client()
    }

    fn types(&self) -> Option<&Types> {
        self.types
    }
}

/// What is the same for both.
macro_rules! asks {
    ($kind:ty) => {
        impl $kind {
            /// All rows of the answer.
            ///
            /// # Errors
            /// The server's, or that it cannot be reached.
            pub async fn query(&self, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Error> {
                Ok(match self.types() {
                    None => self.client().query(&self.inner.prepare_cached(sql).await?, values).await?,
                    Some(types) => {
                        let typed = types.of(self.client(), sql, values).await?;
                        self.client().query_typed(sql, &typed).await?
                    }
                })
            }

            /// The row of the answer, if there is one.
            ///
            /// # Errors
            /// As [`Self::query`], or that there are more.
            pub async fn query_opt(&self, sql: &str, values: Values<'_>) -> Result<Option<Row>, Error> {
                let mut rows = self.query(sql, values).await?;
                if rows.len() > 1 {
                    return Err(Error::Strange("Postgres"));
                }
                Ok(rows.pop())
            }

            /// The row of the answer.
            ///
            /// # Errors
            /// As [`Self::query`], or that there is none, or more.
            pub async fn query_one(&self, sql: &str, values: Values<'_>) -> Result<Row, Error> {
                self.query_opt(sql, values).await?.ok_or(Error::Strange("Postgres"))
            }

            /// How many rows were written.
            ///
            /// # Errors
            /// The server's, or that it cannot be reached.
            pub async fn execute(&self, sql: &str, values: Values<'_>) -> Result<u64, Error> {
                Ok(match self.types() {
                    None => self.client().execute(&self.inner.prepare_cached(sql).await?, values).await?,
                    Some(types) => {
                        let typed = types.of(self.client(), sql, values).await?;
                        self.client().execute_typed(sql, &typed).await?
                    }
                })
            }

            /// Statements without values, one after the other.
            ///
            /// # Errors
            /// The server's, or that it cannot be reached.
            pub async fn batch_execute(&self, sql: &str) -> Result<(), Error> {
                Ok(self.client().batch_execute(sql).await?)
            }
        }
    };
}

asks!(Client);
asks!(Transaction<'_>);
