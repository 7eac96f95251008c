ALTER TABLE counterd_replica
    ADD COLUMN IF NOT EXISTS token  bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS totals bigint[];
ALTER TABLE counterd_counter
    ADD COLUMN IF NOT EXISTS names      bigint,
    ADD COLUMN IF NOT EXISTS name_bytes bigint;
CREATE TABLE IF NOT EXISTS counterd_path (
    counter text,
    name    bytea,
    value   bigint NOT NULL,
    PRIMARY KEY (counter, name)
);
CREATE TABLE IF NOT EXISTS counterd_known (
    name text PRIMARY KEY
);
INSERT INTO counterd_known (name) SELECT name FROM counterd_counter ON CONFLICT DO NOTHING;
INSERT INTO counterd_schema (version) VALUES (2) ON CONFLICT DO NOTHING;
