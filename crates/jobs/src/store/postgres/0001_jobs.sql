-- Which job is next is decided in memory, by the one node that owns these tables: no index is kept of what changes with
-- every start, and room is left on each page, so that a change writes no index either.
CREATE TABLE mainstay.jobs_owner (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    -- One more with each owner. Every commit holds this row and names its epoch.
    epoch BIGINT NOT NULL,
    node TEXT NOT NULL,
    -- When it was last heard of, by the server's clock.
    seen_at TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 10);
INSERT INTO mainstay.jobs_owner (epoch, node, seen_at) VALUES (0, '', '-infinity');

-- Holds the row of the owner until the end of the transaction, if that is still who asks.
CREATE FUNCTION mainstay.jobs_hold(mine BIGINT) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE mainstay.jobs_owner SET seen_at = clock_timestamp() WHERE epoch = mine;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'another node has taken the jobs over' USING ERRCODE = 'MS001';
    END IF;
END
$$;

CREATE TABLE mainstay.jobs_reserved (counter TEXT PRIMARY KEY, ceiling BIGINT NOT NULL);

CREATE TABLE mainstay.jobs_queue (
    id BIGINT PRIMARY KEY, name TEXT NOT NULL, is_paused BOOLEAN NOT NULL,
    -- Starts within the window of its rate: microseconds and count, 8 and 4 bytes each, little-endian.
    starts BYTEA NOT NULL DEFAULT ''
) WITH (fillfactor = 50);

CREATE TABLE mainstay.jobs_job (
    id BIGINT PRIMARY KEY, queue BIGINT NOT NULL, state TEXT NOT NULL,
    -- 1: attempts, 2: lines, 4: words are kept.
    kept BIGINT NOT NULL,
    priority BIGINT NOT NULL, ready_ms BIGINT NOT NULL, attempts BIGINT NOT NULL, starts BIGINT NOT NULL,
    stalls BIGINT NOT NULL, token BIGINT NOT NULL, started_ms BIGINT NOT NULL, ended_ms BIGINT NOT NULL,
    worker TEXT, deadline_ms BIGINT NOT NULL, lease_ms BIGINT NOT NULL, created_ms BIGINT NOT NULL,
    group_key TEXT, unique_key TEXT, unique_ms BIGINT,
    own_attempts BIGINT, own_growth TEXT, own_delay_ms BIGINT, own_jitter BIGINT, own_timeout_ms BIGINT
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- Apart from the row that changes, so that a change does not write a megabyte anew.
CREATE TABLE mainstay.jobs_body (job BIGINT PRIMARY KEY, name TEXT NOT NULL, payload BYTEA NOT NULL, trace TEXT);

CREATE TABLE mainstay.jobs_words (job BIGINT PRIMARY KEY, result BYTEA, progress BYTEA) WITH (fillfactor = 50);

CREATE TABLE mainstay.jobs_attempt (
    job BIGINT NOT NULL, start BIGINT NOT NULL, worker TEXT NOT NULL, started_ms BIGINT NOT NULL,
    ended_ms BIGINT NOT NULL, ending TEXT NOT NULL, error TEXT NOT NULL, stack TEXT,
    PRIMARY KEY (job, start)
);

CREATE TABLE mainstay.jobs_line (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job BIGINT NOT NULL, at_ms BIGINT NOT NULL,
    line TEXT NOT NULL
);
CREATE INDEX jobs_line_job ON mainstay.jobs_line (job);

CREATE TABLE mainstay.jobs_key (
    queue BIGINT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, job BIGINT NOT NULL, until_ms BIGINT,
    PRIMARY KEY (queue, kind, key)
);

CREATE TABLE mainstay.jobs_schedule (
    name TEXT PRIMARY KEY, queue TEXT NOT NULL, pattern TEXT, zone TEXT, every_ms BIGINT, catch_up TEXT NOT NULL,
    next_ms BIGINT NOT NULL, job_name TEXT NOT NULL, payload BYTEA NOT NULL, trace TEXT, priority BIGINT NOT NULL,
    group_key TEXT, own_attempts BIGINT, own_growth TEXT, own_delay_ms BIGINT, own_jitter BIGINT,
    own_timeout_ms BIGINT
);
