CREATE TABLE sessions (
    hash BLOB PRIMARY KEY,
    user_id TEXT NOT NULL,
    data TEXT NOT NULL,
    begun_s INTEGER NOT NULL,
    seen_s INTEGER NOT NULL,
    ended_s INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions (user_id, seen_s);
CREATE INDEX sessions_seen ON sessions (seen_s);
CREATE INDEX sessions_ended ON sessions (ended_s) WHERE ended_s IS NOT NULL;
