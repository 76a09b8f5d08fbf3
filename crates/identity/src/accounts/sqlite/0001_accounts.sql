CREATE TABLE accounts (
    id TEXT PRIMARY KEY,
    address TEXT UNIQUE,
    name TEXT,
    password TEXT,
    is_bcrypt INTEGER NOT NULL DEFAULT 0,
    roles TEXT NOT NULL,
    tenant TEXT,
    tier TEXT,
    generation INTEGER NOT NULL DEFAULT 0,
    verified_us INTEGER,
    created_us INTEGER NOT NULL,
    seen_us INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX accounts_bcrypt ON accounts (id) WHERE is_bcrypt = 1;
CREATE TABLE account_links (
    provider TEXT NOT NULL,
    subject TEXT NOT NULL,
    account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    linked_us INTEGER NOT NULL,
    PRIMARY KEY (provider, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX account_links_by_account ON account_links (account);
CREATE TABLE login_families (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    revoked_us INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX login_families_by_account ON login_families (account, created_us);
CREATE INDEX login_families_by_end ON login_families (expires_us);
CREATE TABLE refresh_tokens (
    token BLOB PRIMARY KEY,
    family TEXT NOT NULL REFERENCES login_families (id) ON DELETE CASCADE,
    expires_us INTEGER NOT NULL,
    used_us INTEGER,
    successor BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_by_family ON refresh_tokens (family);
CREATE INDEX refresh_tokens_by_end ON refresh_tokens (expires_us);
CREATE TABLE mailed_tokens (
    account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    purpose TEXT NOT NULL,
    token BLOB NOT NULL UNIQUE,
    made_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    PRIMARY KEY (account, purpose)
) STRICT, WITHOUT ROWID;
CREATE TABLE revocations (
    what TEXT PRIMARY KEY,
    generation INTEGER,
    until_s INTEGER NOT NULL,
    at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX revocations_by_time ON revocations (at_us);
CREATE INDEX revocations_by_end ON revocations (until_s);
