CREATE TABLE mainstay.operator_tokens (
    name TEXT PRIMARY KEY,
    hash BYTEA NOT NULL,
    scopes TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    expires_us BIGINT
);
