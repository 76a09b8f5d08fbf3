CREATE TABLE mainstay.sessions (
    hash BYTEA PRIMARY KEY,
    user_id TEXT NOT NULL,
    data TEXT NOT NULL,
    begun_s BIGINT NOT NULL,
    seen_s BIGINT NOT NULL,
    ended_s BIGINT
);
CREATE INDEX sessions_user ON mainstay.sessions (user_id, seen_s);
CREATE INDEX sessions_seen ON mainstay.sessions (seen_s);
CREATE INDEX sessions_ended ON mainstay.sessions (ended_s) WHERE ended_s IS NOT NULL;
