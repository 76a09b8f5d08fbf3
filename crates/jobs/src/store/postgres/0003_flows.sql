-- Which job waits for which. A row is there for as long as its parent is, whatever becomes of the child.
CREATE TABLE mainstay.jobs_flow (
    child BIGINT PRIMARY KEY, parent BIGINT NOT NULL,
    -- Of the child.
    queue BIGINT NOT NULL, on_failure TEXT NOT NULL,
    -- State of the child when it was removed, and what it had given by then.
    gone TEXT, result BYTEA
);
CREATE INDEX jobs_flow_parent ON mainstay.jobs_flow (parent);
