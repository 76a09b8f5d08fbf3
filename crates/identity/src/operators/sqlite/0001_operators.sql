CREATE TABLE operator_tokens (
    name TEXT PRIMARY KEY,
    hash BLOB NOT NULL,
    scopes TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER
) STRICT, WITHOUT ROWID;
