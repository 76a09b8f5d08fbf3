CREATE TABLE journal (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_us INTEGER NOT NULL,
    last_us INTEGER NOT NULL,
    count INTEGER NOT NULL DEFAULT 1,
    class TEXT NOT NULL CHECK (class IN ('operations', 'audit')),
    kind TEXT NOT NULL,
    version INTEGER NOT NULL,
    actor TEXT,
    subject TEXT,
    payload TEXT NOT NULL
) STRICT;
CREATE INDEX journal_by_age ON journal (class, last_us);
CREATE INDEX journal_by_subject ON journal (kind, subject, id) WHERE subject IS NOT NULL;
