//! The statements, made of the lists of columns and prepared once a session.

use super::columns::{self, Columns, Kind, names, unnest};
use mainstay_store::Error;
use mainstay_store::postgres::{Prepared, Session};

/// Which statement. The order is that of [`Which::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Hold,
    Reserve,
    Queue,
    Starts,
    Insert,
    Body,
    Update,
    Attempt,
    Words,
    Line,
    Link,
    ChildGone,
    Unlink,
    RemoveJob,
    RemoveBody,
    RemoveAttempts,
    RemoveLines,
    RemoveWords,
    Key,
    KeyGone,
    Schedule,
    Unschedule,
    Taken,
    SetAside,
    Bodies,
    Children,
    Inbox,
}

/// Prepared.
pub struct Statements(Vec<Prepared>);

impl Which {
    pub const ALL: [Which; 27] = [
        Which::Hold,
        Which::Reserve,
        Which::Queue,
        Which::Starts,
        Which::Insert,
        Which::Body,
        Which::Update,
        Which::Attempt,
        Which::Words,
        Which::Line,
        Which::Link,
        Which::ChildGone,
        Which::Unlink,
        Which::RemoveJob,
        Which::RemoveBody,
        Which::RemoveAttempts,
        Which::RemoveLines,
        Which::RemoveWords,
        Which::Key,
        Which::KeyGone,
        Which::Schedule,
        Which::Unschedule,
        Which::Taken,
        Which::SetAside,
        Which::Bodies,
        Which::Children,
        Which::Inbox,
    ];

    fn sql(self) -> String {
        let upsert = |table, columns, conflict: &str| format!("{} ON CONFLICT {conflict}", insert(table, columns));
        let remove = |table: &str, column: &str| {
            format!("DELETE FROM mainstay.jobs_{table} WHERE {column} = ANY ($1::bigint[])")
        };
        match self {
            Which::Hold => "SELECT mainstay.jobs_hold($1::bigint)".to_owned(),
            Which::Reserve => {
                upsert("reserved", columns::RESERVED, "(counter) DO UPDATE SET ceiling = excluded.ceiling")
            }
            Which::Queue => upsert("queue", columns::QUEUE, "(id) DO UPDATE SET is_paused = excluded.is_paused"),
            Which::Starts => update("queue", columns::STARTS),
            Which::Insert => {
                let list = columns::job();
                let kinds = columns::PROGRESSED.iter().chain(columns::CONSTANT).map(|(_, kind)| *kind);
                format!("INSERT INTO mainstay.jobs_job ({list}) SELECT * FROM {}", unnest(kinds))
            }
            Which::Body => insert("body", columns::BODY),
            Which::Update => update("job", columns::PROGRESSED),
            // Of those that were no start the last is kept.
            Which::Attempt => {
                let set = format!("(job, start) DO UPDATE SET {}", excluded(&columns::ATTEMPT[1..]));
                upsert("attempt", columns::ATTEMPT, &set)
            }
            Which::Words => upsert(
                "words AS old",
                columns::WORDS,
                "(job) DO UPDATE SET result = coalesce(excluded.result, old.result),
                 progress = coalesce(excluded.progress, old.progress)",
            ),
            Which::Line => insert("line", columns::LINE),
            Which::Link => insert("flow", columns::LINK),
            Which::ChildGone => child_gone(),
            Which::Unlink => remove("flow", "parent"),
            Which::RemoveJob => remove("job", "id"),
            Which::RemoveBody => remove("body", "job"),
            Which::RemoveAttempts => remove("attempt", "job"),
            Which::RemoveLines => remove("line", "job"),
            Which::RemoveWords => remove("words", "job"),
            Which::Key => {
                let set = "(queue, kind, key) DO UPDATE SET job = excluded.job, until_ms = excluded.until_ms";
                upsert("key", columns::KEY, set)
            }
            Which::KeyGone => format!(
                "DELETE FROM mainstay.jobs_key AS old USING {} AS gone (queue, kind, key)
                 WHERE old.queue = gone.queue AND old.kind = gone.kind AND old.key = gone.key",
                unnest(kinds(columns::KEY_GONE))
            ),
            Which::Schedule => {
                upsert("schedule", columns::SCHEDULE, &format!("(name) DO UPDATE SET {}", excluded(columns::SCHEDULE)))
            }
            Which::Unschedule => "DELETE FROM mainstay.jobs_schedule WHERE name = ANY ($1::text[])".to_owned(),
            Which::Taken => remove("inbox", "id"),
            Which::SetAside => format!(
                "UPDATE mainstay.jobs_inbox AS old SET refused = new.refused,
                 again_at = clock_timestamp() + interval '1 minute'
                 FROM {} AS new (id, refused) WHERE old.id = new.id",
                unnest(kinds(columns::REFUSED))
            ),
            // In their order.
            Which::Bodies => format!(
                "SELECT {} FROM unnest($1::bigint[]) WITH ORDINALITY AS wanted (id, number)
                 JOIN mainstay.jobs_body ON job = wanted.id ORDER BY number",
                names(columns::BODY)
            ),
            Which::Children => children(),
            Which::Inbox => inbox(),
        }
    }
}

/// What it gave may have been kept before, or in this commit.
fn child_gone() -> String {
    format!(
        "UPDATE mainstay.jobs_flow AS old SET gone = new.gone, result = coalesce(new.result,
         (SELECT words.result FROM mainstay.jobs_words AS words WHERE words.job = new.child))
         FROM {} AS new ({}) WHERE old.child = new.child",
        unnest(kinds(columns::CHILD_GONE)),
        names(columns::CHILD_GONE)
    )
}

/// Children of a job in their order, and the bytes of what they gave: `$1` the parent, `$2` at most, `$3` left out.
pub fn children() -> String {
    "SELECT f.child, q.name, f.on_failure, coalesce(f.gone, j.state) AS state, f.gone IS NOT NULL AS is_gone,
     coalesce(f.result, w.result) AS result FROM mainstay.jobs_flow AS f
     JOIN mainstay.jobs_queue AS q ON q.id = f.queue LEFT JOIN mainstay.jobs_job AS j ON j.id = f.child
     LEFT JOIN mainstay.jobs_words AS w ON w.job = f.child WHERE f.parent = $1::bigint ORDER BY f.child
     LIMIT $2::bigint OFFSET $3::bigint"
        .to_owned()
}

/// The oldest that may be taken over, as many as fit: the first in any case.
fn inbox() -> String {
    format!(
        "SELECT id, greatest(0, delay_ms - floor(extract(epoch FROM clock_timestamp() - added_at) * 1000)::bigint)
         AS left_ms, {columns} FROM (
            SELECT *, sum(octet_length(payload)) OVER (ORDER BY id) AS bytes, row_number() OVER (ORDER BY id) AS number
            FROM (SELECT * FROM mainstay.jobs_inbox WHERE again_at <= clock_timestamp() ORDER BY id
                  LIMIT $1::bigint) AS oldest
         ) AS counted WHERE number = 1 OR bytes <= $2::bigint ORDER BY id",
        columns = names(columns::INBOX)
    )
}

fn kinds(columns: Columns) -> impl Iterator<Item = Kind> {
    columns.iter().map(|(_, kind)| *kind)
}

fn insert(table: &str, columns: Columns) -> String {
    format!("INSERT INTO mainstay.jobs_{table} ({}) SELECT * FROM {}", names(columns), unnest(kinds(columns)))
}

/// The first column says which row.
fn update(table: &str, columns: Columns) -> String {
    let set: Vec<String> = columns[1..].iter().map(|(name, _)| format!("{name} = new.{name}")).collect();
    format!(
        "UPDATE mainstay.jobs_{table} AS old SET {} FROM {} AS new ({}) WHERE old.{id} = new.{id}",
        set.join(", "),
        unnest(kinds(columns)),
        names(columns),
        id = columns[0].0
    )
}

fn excluded(columns: Columns) -> String {
    columns[1..].iter().map(|(name, _)| format!("{name} = excluded.{name}")).collect::<Vec<_>>().join(", ")
}

impl Statements {
    pub async fn prepare(session: &Session) -> Result<Statements, Error> {
        let mut all = Vec::with_capacity(Which::ALL.len());
        for which in Which::ALL {
            all.push(session.prepare(which.sql()).await?);
        }
        Ok(Statements(all))
    }

    pub fn get(&self, which: Which) -> &Prepared {
        &self.0[which as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_where_its_number_says() {
        assert!(Which::ALL.iter().enumerate().all(|(index, which)| *which as usize == index));
    }
}
