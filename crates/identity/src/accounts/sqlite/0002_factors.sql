CREATE TABLE second_factors (
    account TEXT PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    secret BLOB NOT NULL,
    made_us INTEGER NOT NULL,
    confirmed_us INTEGER,
    step INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE recovery_codes (
    account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    code BLOB NOT NULL,
    PRIMARY KEY (account, code)
) STRICT, WITHOUT ROWID;
CREATE TABLE login_tickets (
    token BLOB PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    purpose TEXT NOT NULL,
    methods TEXT NOT NULL,
    breached INTEGER NOT NULL,
    made_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX login_tickets_by_account ON login_tickets (account, made_us);
CREATE INDEX login_tickets_by_end ON login_tickets (expires_us);
ALTER TABLE login_families ADD COLUMN methods TEXT NOT NULL DEFAULT '';
ALTER TABLE login_families ADD COLUMN agent TEXT NOT NULL DEFAULT '';
ALTER TABLE login_families ADD COLUMN client TEXT NOT NULL DEFAULT '';
ALTER TABLE login_families ADD COLUMN seen_us INTEGER NOT NULL DEFAULT 0;
