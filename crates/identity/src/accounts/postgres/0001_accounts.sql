CREATE TABLE mainstay.accounts (
    id TEXT PRIMARY KEY,
    address TEXT UNIQUE,
    name TEXT,
    password TEXT,
    is_bcrypt BIGINT NOT NULL DEFAULT 0,
    roles TEXT NOT NULL,
    tenant TEXT,
    tier TEXT,
    generation BIGINT NOT NULL DEFAULT 0,
    verified_us BIGINT,
    created_us BIGINT NOT NULL,
    seen_us BIGINT
);
CREATE INDEX accounts_bcrypt ON mainstay.accounts (id) WHERE is_bcrypt = 1;
CREATE TABLE mainstay.account_links (
    provider TEXT NOT NULL,
    subject TEXT NOT NULL,
    account TEXT NOT NULL REFERENCES mainstay.accounts (id) ON DELETE CASCADE,
    linked_us BIGINT NOT NULL,
    PRIMARY KEY (provider, subject)
);
CREATE INDEX account_links_by_account ON mainstay.account_links (account);
CREATE TABLE mainstay.login_families (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES mainstay.accounts (id) ON DELETE CASCADE,
    created_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    revoked_us BIGINT
);
CREATE INDEX login_families_by_account ON mainstay.login_families (account, created_us);
CREATE INDEX login_families_by_end ON mainstay.login_families (expires_us);
CREATE TABLE mainstay.refresh_tokens (
    token BYTEA PRIMARY KEY,
    family TEXT NOT NULL REFERENCES mainstay.login_families (id) ON DELETE CASCADE,
    expires_us BIGINT NOT NULL,
    used_us BIGINT,
    successor BYTEA
);
CREATE INDEX refresh_tokens_by_family ON mainstay.refresh_tokens (family);
CREATE INDEX refresh_tokens_by_end ON mainstay.refresh_tokens (expires_us);
CREATE TABLE mainstay.mailed_tokens (
    account TEXT NOT NULL REFERENCES mainstay.accounts (id) ON DELETE CASCADE,
    purpose TEXT NOT NULL,
    token BYTEA NOT NULL UNIQUE,
    made_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    PRIMARY KEY (account, purpose)
);
CREATE TABLE mainstay.revocations (
    what TEXT PRIMARY KEY,
    generation BIGINT,
    until_s BIGINT NOT NULL,
    at_us BIGINT NOT NULL
);
CREATE INDEX revocations_by_time ON mainstay.revocations (at_us);
CREATE INDEX revocations_by_end ON mainstay.revocations (until_s);
