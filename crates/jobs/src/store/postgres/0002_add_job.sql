-- Jobs that apps add in transactions of their own. The owner takes them over in a commit that deletes them here.
-- Their ids are the jobs' ids: above those that the engine gives out, and exact in JSON (below 2^53).
CREATE SEQUENCE mainstay.jobs_inbox_ids AS BIGINT MINVALUE 4503599627370496 MAXVALUE 9007199254740991 NO CYCLE;

CREATE TABLE mainstay.jobs_inbox (
    id BIGINT PRIMARY KEY DEFAULT nextval('mainstay.jobs_inbox_ids'),
    queue TEXT NOT NULL, name TEXT NOT NULL, payload BYTEA NOT NULL, trace TEXT, priority BIGINT NOT NULL,
    delay_ms BIGINT NOT NULL, group_key TEXT, unique_key TEXT, unique_ms BIGINT,
    own_attempts BIGINT, own_growth TEXT, own_delay_ms BIGINT, own_jitter BIGINT, own_timeout_ms BIGINT,
    added_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    -- Why it could not be taken over, and when that is tried again.
    refused TEXT,
    again_at TIMESTAMPTZ NOT NULL DEFAULT '-infinity'
);

-- Milliseconds, or a time as '2s' or '1h30m'.
CREATE FUNCTION mainstay.jobs_ms(given JSONB, what TEXT, most BIGINT) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    said TEXT := given #>> '{}';
    n CONSTANT TEXT := '([0-9]{1,12}(?:[.][0-9]{1,9})?)';
    parts TEXT[];
    found NUMERIC;
BEGIN
    IF given IS NULL OR jsonb_typeof(given) = 'null' THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(given) = 'number' THEN
        found := said::numeric;
    ELSIF jsonb_typeof(given) = 'string' AND said <> '' THEN
        parts := regexp_match(said, '^(?:' || n || 'w)?(?:' || n || 'd)?(?:' || n || 'h)?(?:' || n || 'm(?!s))?(?:'
            || n || 's)?(?:' || n || 'ms)?$');
        IF parts IS NOT NULL THEN
            found := coalesce(parts[1]::numeric, 0) * 604800000 + coalesce(parts[2]::numeric, 0) * 86400000
                + coalesce(parts[3]::numeric, 0) * 3600000 + coalesce(parts[4]::numeric, 0) * 60000
                + coalesce(parts[5]::numeric, 0) * 1000 + coalesce(parts[6]::numeric, 0);
        END IF;
    END IF;
    IF found IS NULL OR found < 0 OR found <> trunc(found) THEN
        RAISE EXCEPTION 'mainstay.add_job: % is %; milliseconds, or a time as "2s"', what, given
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF found > most THEN
        RAISE EXCEPTION 'mainstay.add_job: % is % ms where % is the most', what, trunc(found), most
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN found::bigint;
END
$$;

CREATE FUNCTION mainstay.jobs_whole(given JSONB, what TEXT, most BIGINT) RETURNS BIGINT LANGUAGE plpgsql AS $$
BEGIN
    IF given IS NULL OR jsonb_typeof(given) = 'null' THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(given) <> 'number' OR (given #>> '{}') !~ '^[0-9]{1,15}$' OR (given #>> '{}')::bigint > most THEN
        RAISE EXCEPTION 'mainstay.add_job: % is %; a whole number from 0 to %', what, given, most
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN (given #>> '{}')::bigint;
END
$$;

CREATE FUNCTION mainstay.jobs_text(given JSONB, what TEXT) RETURNS TEXT LANGUAGE plpgsql AS $$
BEGIN
    IF given IS NULL OR jsonb_typeof(given) = 'null' THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(given) <> 'string' OR octet_length(given #>> '{}') NOT BETWEEN 1 AND 256 THEN
        RAISE EXCEPTION 'mainstay.add_job: %: a text of 1 to 256 bytes is expected', what
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN given #>> '{}';
END
$$;

CREATE FUNCTION mainstay.jobs_known(given JSONB, what TEXT, VARIADIC known TEXT[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    strange TEXT;
BEGIN
    IF jsonb_typeof(given) <> 'object' THEN
        RAISE EXCEPTION 'mainstay.add_job: % is %; an object is expected', what, given
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT k INTO strange FROM jsonb_object_keys(given) AS k WHERE k <> ALL (known) ORDER BY k LIMIT 1;
    IF strange IS NOT NULL THEN
        RAISE EXCEPTION 'mainstay.add_job: % has no "%"; known are %', what, strange, array_to_string(known, ', ')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$$;

-- Adds a job if the transaction that calls it commits; the id of the job. Who may call it needs USAGE on the schema and
-- nothing else.
CREATE FUNCTION mainstay.add_job(queue TEXT, name TEXT, payload JSONB, opts JSONB DEFAULT '{}') RETURNS BIGINT
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given JSONB := coalesce(opts, '{}');
    waits JSONB;
    growth TEXT;
    body BYTEA := convert_to(coalesce(payload, 'null')::text, 'UTF8');
    id BIGINT;
BEGIN
    PERFORM mainstay.jobs_text(to_jsonb(add_job.queue), 'queue');
    IF add_job.queue IS NULL THEN
        RAISE EXCEPTION 'mainstay.add_job: queue is null' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF coalesce(add_job.name, '') <> '' THEN
        PERFORM mainstay.jobs_text(to_jsonb(add_job.name), 'name');
    END IF;
    IF octet_length(body) > 1048576 THEN
        RAISE EXCEPTION 'mainstay.add_job: the payload is % bytes where 1048576 is the most', octet_length(body)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM mainstay.jobs_known(given, 'opts', 'delay', 'priority', 'attempts', 'backoff', 'timeout', 'key', 'keyFor',
        'group', 'traceparent');
    waits := nullif(given -> 'backoff', 'null');
    IF waits IS NOT NULL THEN
        PERFORM mainstay.jobs_known(waits, 'backoff', 'type', 'kind', 'delay', 'jitter');
        growth := coalesce(waits ->> 'type', waits ->> 'kind');
        IF growth IS NULL OR growth NOT IN ('fixed', 'exponential') OR waits -> 'delay' IS NULL THEN
            RAISE EXCEPTION 'mainstay.add_job: backoff is %; {"type": "fixed" or "exponential", "delay": "2s"}', waits
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END IF;
    IF given -> 'keyFor' IS NOT NULL AND given -> 'key' IS NULL THEN
        RAISE EXCEPTION 'mainstay.add_job: keyFor: there is no key that it is for'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO mainstay.jobs_inbox (queue, name, payload, trace, priority, delay_ms, group_key, unique_key, unique_ms,
        own_attempts, own_growth, own_delay_ms, own_jitter, own_timeout_ms)
    VALUES (add_job.queue, coalesce(add_job.name, ''), body, mainstay.jobs_text(given -> 'traceparent', 'traceparent'),
        coalesce(mainstay.jobs_whole(given -> 'priority', 'priority', 2097152), 0),
        coalesce(mainstay.jobs_ms(given -> 'delay', 'delay', 315360000000), 0),
        mainstay.jobs_text(given -> 'group', 'group'), mainstay.jobs_text(given -> 'key', 'key'),
        mainstay.jobs_ms(given -> 'keyFor', 'keyFor', 2592000000),
        mainstay.jobs_whole(given -> 'attempts', 'attempts', 10000), growth,
        mainstay.jobs_ms(waits -> 'delay', 'backoff.delay', 86400000),
        CASE WHEN waits IS NOT NULL THEN coalesce(mainstay.jobs_whole(waits -> 'jitter', 'backoff.jitter', 100), 0) END,
        mainstay.jobs_ms(given -> 'timeout', 'timeout', 315360000000))
    RETURNING jobs_inbox.id INTO id;
    PERFORM pg_notify('mainstay_jobs', '');
    RETURN id;
END
$$;
