-- Which job is next is decided in memory: no index is kept of what changes with every start.
CREATE TABLE reserved (counter TEXT PRIMARY KEY, ceiling INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE queue (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, is_paused INTEGER NOT NULL,
    -- Starts within the window of its rate: microseconds and count, 8 and 4 bytes each, little-endian.
    starts BLOB NOT NULL DEFAULT x''
) STRICT;

CREATE TABLE job (
    id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, state TEXT NOT NULL,
    -- 1: attempts, 2: lines, 4: words are kept.
    kept INTEGER NOT NULL,
    priority INTEGER NOT NULL, ready_ms INTEGER NOT NULL, attempts INTEGER NOT NULL, starts INTEGER NOT NULL,
    stalls INTEGER NOT NULL, token INTEGER NOT NULL, started_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL,
    worker TEXT, deadline_ms INTEGER NOT NULL, lease_ms INTEGER NOT NULL, created_ms INTEGER NOT NULL,
    group_key TEXT, unique_key TEXT, unique_ms INTEGER,
    own_attempts INTEGER, own_growth TEXT, own_delay_ms INTEGER, own_jitter INTEGER, own_timeout_ms INTEGER
) STRICT;

-- Apart from the row that changes, so that a change does not write a megabyte anew.
CREATE TABLE body (job INTEGER PRIMARY KEY, name TEXT NOT NULL, payload BLOB NOT NULL, trace TEXT) STRICT;

CREATE TABLE words (job INTEGER PRIMARY KEY, result BLOB, progress BLOB) STRICT;

CREATE TABLE attempt (
    job INTEGER NOT NULL, start INTEGER NOT NULL, worker TEXT NOT NULL, started_ms INTEGER NOT NULL,
    ended_ms INTEGER NOT NULL, ending TEXT NOT NULL, error TEXT NOT NULL, stack TEXT,
    PRIMARY KEY (job, start)
) STRICT, WITHOUT ROWID;

CREATE TABLE line (number INTEGER PRIMARY KEY, job INTEGER NOT NULL, at_ms INTEGER NOT NULL, line TEXT NOT NULL) STRICT;
CREATE INDEX line_job ON line (job);

CREATE TABLE key (
    queue INTEGER NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, job INTEGER NOT NULL, until_ms INTEGER,
    PRIMARY KEY (queue, kind, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE schedule (
    name TEXT PRIMARY KEY, queue TEXT NOT NULL, pattern TEXT, zone TEXT, every_ms INTEGER, catch_up TEXT NOT NULL,
    next_ms INTEGER NOT NULL, job_name TEXT NOT NULL, payload BLOB NOT NULL, trace TEXT, priority INTEGER NOT NULL,
    group_key TEXT, own_attempts INTEGER, own_growth TEXT, own_delay_ms INTEGER, own_jitter INTEGER,
    own_timeout_ms INTEGER
) STRICT, WITHOUT ROWID;

-- Written and emptied to see whether anything can be written.
CREATE TABLE probe (number INTEGER PRIMARY KEY) STRICT;
