-- Jobs by the trace of the request that added them. Trace ids come in no order, and in an index of them alone each add
-- would write a page of its own: so jobs are taken in pieces of 1024, and who asks looks into each piece. The end of
-- the id is enough, 8 of its 32 digits, since some begin with zeros or with the time; the rest is compared.
CREATE INDEX body_trace ON body (job >> 10, substr(trace, 28, 8)) WHERE trace IS NOT NULL;
