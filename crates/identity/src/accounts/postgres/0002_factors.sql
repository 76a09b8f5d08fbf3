CREATE TABLE mainstay.second_factors (
    account TEXT PRIMARY KEY REFERENCES mainstay.accounts (id) ON DELETE CASCADE,
    secret BYTEA NOT NULL,
    made_us BIGINT NOT NULL,
    confirmed_us BIGINT,
    step BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE mainstay.recovery_codes (
    account TEXT NOT NULL REFERENCES mainstay.accounts (id) ON DELETE CASCADE,
    code BYTEA NOT NULL,
    PRIMARY KEY (account, code)
);
CREATE TABLE mainstay.login_tickets (
    token BYTEA PRIMARY KEY,
    account TEXT NOT NULL REFERENCES mainstay.accounts (id) ON DELETE CASCADE,
    generation BIGINT NOT NULL,
    purpose TEXT NOT NULL,
    methods TEXT NOT NULL,
    breached BIGINT NOT NULL,
    made_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL
);
CREATE INDEX login_tickets_by_account ON mainstay.login_tickets (account, made_us);
CREATE INDEX login_tickets_by_end ON mainstay.login_tickets (expires_us);
ALTER TABLE mainstay.login_families ADD COLUMN methods TEXT NOT NULL DEFAULT '';
ALTER TABLE mainstay.login_families ADD COLUMN agent TEXT NOT NULL DEFAULT '';
ALTER TABLE mainstay.login_families ADD COLUMN client TEXT NOT NULL DEFAULT '';
ALTER TABLE mainstay.login_families ADD COLUMN seen_us BIGINT NOT NULL DEFAULT 0;
