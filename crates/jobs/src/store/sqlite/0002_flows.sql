-- Which job waits for which. A row is there for as long as its parent is, whatever becomes of the child.
CREATE TABLE flow (
    child INTEGER PRIMARY KEY, parent INTEGER NOT NULL,
    -- Of the child.
    queue INTEGER NOT NULL, on_failure TEXT NOT NULL,
    -- State of the child when it was removed, and what it had given by then.
    gone TEXT, result BLOB
) STRICT;
CREATE INDEX flow_parent ON flow (parent);
