-- What nodes that stand by ask of the one that decides, and what it answers. Of no worth after a crash of the server:
-- whoever asked is told that it is not known what became of it. So none of it is logged, and nobody waits for the disk.
CREATE UNLOGGED TABLE mainstay.jobs_call (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node TEXT NOT NULL,
    -- Which of its calls.
    number BIGINT NOT NULL,
    -- Nobody waits for it any longer than this.
    until TIMESTAMPTZ NOT NULL,
    asked BYTEA NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

CREATE UNLOGGED TABLE mainstay.jobs_reply (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node TEXT NOT NULL,
    -- To which of its calls; 0 is to none: what happened, told to whoever listens.
    number BIGINT NOT NULL,
    -- Thrown away then, fetched or not.
    until TIMESTAMPTZ NOT NULL,
    told BYTEA NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
CREATE INDEX jobs_reply_node ON mainstay.jobs_reply (node);
