CREATE TABLE mainstay.journal (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_us BIGINT NOT NULL,
    last_us BIGINT NOT NULL,
    count BIGINT NOT NULL DEFAULT 1,
    class TEXT NOT NULL CHECK (class IN ('operations', 'audit')),
    kind TEXT NOT NULL,
    version INTEGER NOT NULL,
    actor TEXT,
    subject TEXT,
    payload TEXT NOT NULL
);
CREATE INDEX journal_by_age ON mainstay.journal (class, last_us);
CREATE INDEX journal_by_subject ON mainstay.journal (kind, subject, id) WHERE subject IS NOT NULL;
