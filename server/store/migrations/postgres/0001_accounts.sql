-- Migrations only add: release N-1 must be able to read and write what release N has migrated, and while it does. What
-- is no longer used is dropped one release later, by a migration that sets schema_needs to the last one that a program
-- must know. A function is replaced by one that takes the same and does the same better, or stays beside a new one of
-- another name.

-- One row: the last migration that a program must know to go on.
CREATE TABLE schema_needs (
    version bigint NOT NULL
);
INSERT INTO schema_needs VALUES (0);

-- Rows are found by the number of their account. A number is never given twice: what may be left of an account that is
-- gone is nobody's.
CREATE TABLE account (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The bare JID, normalised. In the order of its bytes, as everywhere else.
    jid text COLLATE "C" NOT NULL UNIQUE
);

-- What SCRAM keeps of a password (RFC 5802 section 3), one row for each hash function.
CREATE TABLE verifier (
    account bigint NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    -- 'SHA-1', 'SHA-256', 'SHA-512'
    hash text COLLATE "C" NOT NULL,
    salt bytea NOT NULL,
    iterations bigint NOT NULL,
    stored_key bytea NOT NULL,
    server_key bytea NOT NULL,
    PRIMARY KEY (account, hash)
);

-- Secrets that the servers made for themselves, the same for all.
CREATE TABLE secret (
    name text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);

-- Who may write: one row for each run of each process, by the bits of its number, which is never 0. Who is not here may
-- not.
CREATE TABLE instance (
    id bigint PRIMARY KEY,
    revoked boolean NOT NULL DEFAULT false,
    -- When it came, and when it was revoked.
    since timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

-- Every transaction that writes calls this first, with its own instance and all that it names, each once and rising.
-- The locks last to its end: whoever revokes one of them waits for that, by taking the lock for itself alone. Returns
-- those that may write: read by a statement behind the locks, which sees what was committed before they were given
-- (this needs READ COMMITTED). SR001: `own` may not.
CREATE FUNCTION may_write(own bigint, named bigint[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    able bigint[];
    instance bigint;
BEGIN
    FOREACH instance IN ARRAY named LOOP
        -- It returns nothing: in this way it is called without a statement's cost.
        CONTINUE WHEN pg_advisory_xact_lock_shared(instance) IS NULL;
    END LOOP;
    able := ARRAY (SELECT i.id FROM instance AS i WHERE i.id = ANY (named) AND NOT i.revoked);
    IF own <> ALL (able) THEN
        RAISE EXCEPTION 'the instance % was revoked', to_hex(own) USING ERRCODE = 'SR001';
    END IF;
    RETURN able;
END
$$;
