CREATE TABLE IF NOT EXISTS counterd_schema (
    version bigint PRIMARY KEY
);
CREATE TABLE IF NOT EXISTS counterd_counter (
    name  text PRIMARY KEY,
    value bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS counterd_replica (
    id       uuid PRIMARY KEY,
    counter  text NOT NULL,
    host     text NOT NULL,
    seq      bigint NOT NULL DEFAULT 0,
    total    bigint NOT NULL DEFAULT 0,
    attempts bigint NOT NULL DEFAULT 0,
    seen     timestamptz NOT NULL DEFAULT now()
);
INSERT INTO counterd_schema (version) VALUES (1) ON CONFLICT DO NOTHING;
