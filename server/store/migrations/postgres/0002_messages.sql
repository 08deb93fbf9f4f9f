-- Messages: archive, offline store and crash journal. Rows are appended and never changed; what changes is who must
-- still get which, and that is in message_open, which is small.
CREATE TABLE message (
    -- No reference: rows come in floods, and are checked against the accounts as they come.
    account bigint NOT NULL,
    -- 16 bytes, the highest first: sorts by time.
    id uuid NOT NULL,
    -- The other side.
    peer text NOT NULL,
    -- 0: sent by the account, 1: received
    direction smallint NOT NULL,
    -- Whether it stays when it is delivered.
    archived boolean NOT NULL,
    -- What a sent message was in its sender's stream, if that can be resumed: 16 bytes that name the stream, 4 of the
    -- count.
    origin bytea,
    stanza bytea NOT NULL,
    PRIMARY KEY (account, id)
);

-- What expires is found by its age.
CREATE INDEX message_by_time ON message (id) WHERE archived;

-- What somebody must still get. Holder 0: it waits for a session of the account. Another: the instance of that number
-- has it in flight, and several may. A message without rows here is delivered, and there only if it is archived; one
-- that is not archived always has some.
CREATE TABLE message_open (
    account bigint NOT NULL,
    id uuid NOT NULL,
    holder bigint NOT NULL,
    -- The message's, so that only those that go are looked at when they are delivered.
    archived boolean NOT NULL,
    PRIMARY KEY (account, id, holder)
) WITH (
    -- Each message comes and goes: what is dead is cleared away before there is much of it.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX message_open_by_holder ON message_open (holder) WHERE holder <> 0;

-- Of the functions below. Keys are arrays of the same length. A plan is made once, when the table may be empty, and
-- kept when it is full: so rows are found by subqueries that can only be answered for one key at a time, from the
-- index, and where many are changed at once, by their place (ctid). Rows of message_open come with their message, and
-- go when it is delivered; whoever does anything else with them has locked the message, all of them in one order and by
-- a statement of its own, so that nobody else does meanwhile.

-- Locks messages, those that are there, in the order of their accounts' numbers and then their own.
CREATE FUNCTION message_lock(accounts bigint[], ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM (
        SELECT DISTINCT accounts[named.n] AS account, named.id
        FROM unnest(ids) WITH ORDINALITY AS named (id, n) ORDER BY 1, 2) AS key CROSS JOIN LATERAL (
        SELECT FROM message AS m WHERE m.account = key.account AND m.id = key.id FOR NO KEY UPDATE) AS locked;
END
$$;

-- These holders (null: whoever it is) do not have these messages any more, which are locked: one that any of them had
-- waits.
CREATE FUNCTION message_return(accounts bigint[], ids uuid[], holders bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1 .. coalesce(cardinality(ids), 0) LOOP
        WITH gone AS (
            DELETE FROM message_open AS o WHERE o.account = accounts[n] AND o.id = ids[n]
            AND o.holder <> 0 AND (holders[n] IS NULL OR o.holder = holders[n])
            RETURNING o.account, o.id, o.archived
        )
        INSERT INTO message_open (account, id, holder, archived)
        SELECT DISTINCT gone.account, gone.id, 0, gone.archived FROM gone ON CONFLICT DO NOTHING;
    END LOOP;
END
$$;

-- The group commit: what is put, then what another has, then what is returned, then what is delivered. The caller sees
-- to it that no message needs another order, and that none is put, or held by another, twice. `accounts`: the
-- addresses; the changes name their places in it, and those of addresses that are no account are left out. `named`: see
-- may_write. Rows that wait may be there already; if others are, that is a unique_violation, unless the caller is
-- `careful`; and so it is if somebody else writes the same row at the same time. `open_row`, `open_holder`: who has the
-- rows that are put, by their places, or 0.
CREATE FUNCTION message_commit(
    own bigint, named bigint[], careful boolean, accounts text[],
    put_account integer[], put_id uuid[], put_peer text[], put_direction smallint[], put_archived boolean[],
    put_waits boolean[], put_origin bytea[], put_stanza bytea[], open_row integer[], open_holder bigint[],
    held_account integer[], held_id uuid[], held_from bigint[], held_to bigint[],
    returned_account integer[], returned_id uuid[], returned_holder bigint[],
    delivered_account integer[], delivered_id uuid[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    able bigint[] := may_write(own, named);
    numbers bigint[];
    -- Places of rows that are there already.
    old integer[] := '{}';
    old_accounts bigint[] := '{}';
    old_ids uuid[] := '{}';
    target bigint;
    places tid[];
    gone_accounts bigint[];
    gone_ids uuid[];
    deleted bigint;
BEGIN
    numbers := ARRAY (
        SELECT coalesce((SELECT a.id FROM account AS a WHERE a.jid = key), 0) FROM unnest(accounts) AS key);

    -- Looked for before: ON CONFLICT would cost each row more than its insertion into an index.
    IF careful OR true = ANY (put_waits) THEN
        old := ARRAY (
            SELECT n FROM generate_series(1, cardinality(put_id)) AS n WHERE (careful OR put_waits[n]) AND (
                SELECT true FROM message AS m WHERE m.account = numbers[put_account[n]] AND m.id = put_id[n]));
    END IF;

    IF cardinality(old) > 0 THEN
        -- Of these, only those that wait change anything.
        old_accounts := ARRAY (SELECT numbers[put_account[n]] FROM unnest(old) AS n WHERE put_waits[n]);
        old_ids := ARRAY (SELECT put_id[n] FROM unnest(old) AS n WHERE put_waits[n]);
    END IF;
    IF cardinality(old_ids) + cardinality(held_id) + cardinality(returned_id) > 0 THEN
        PERFORM message_lock(
            old_accounts || ARRAY (SELECT numbers[place] FROM unnest(held_account || returned_account) AS place),
            old_ids || held_id || returned_id);
    END IF;

    IF cardinality(put_id) > 0 THEN
        INSERT INTO message (account, id, peer, direction, archived, origin, stanza)
        SELECT numbers[put_account[n]], put_id[n], put_peer[n], put_direction[n], put_archived[n], put_origin[n],
            put_stanza[n]
        FROM generate_series(1, cardinality(put_id)) AS n WHERE numbers[put_account[n]] <> 0 AND n <> ALL (old);
        IF cardinality(able) < cardinality(named) THEN
            -- One that was revoked has nothing. More than one of those that had a message may have been.
            INSERT INTO message_open (account, id, holder, archived)
            SELECT DISTINCT numbers[put_account[o.place]], put_id[o.place],
                CASE WHEN o.holder = ANY (able) THEN o.holder ELSE 0 END, put_archived[o.place]
            FROM unnest(open_row, open_holder) AS o (place, holder)
            WHERE numbers[put_account[o.place]] <> 0 AND o.place <> ALL (old);
        ELSIF cardinality(open_row) > 0 THEN
            INSERT INTO message_open (account, id, holder, archived)
            SELECT numbers[put_account[o.place]], put_id[o.place], o.holder, put_archived[o.place]
            FROM unnest(open_row, open_holder) AS o (place, holder)
            WHERE numbers[put_account[o.place]] <> 0 AND o.place <> ALL (old);
        END IF;
        IF cardinality(old_ids) > 0 THEN
            PERFORM message_return(old_accounts, old_ids, array_fill(NULL::bigint, ARRAY[cardinality(old_ids)]));
            -- Those that nobody had, as they are there.
            INSERT INTO message_open (account, id, holder, archived)
            SELECT stored.account, stored.id, 0, stored.archived
            FROM unnest(old_ids) WITH ORDINALITY AS key (id, n) CROSS JOIN LATERAL (
                SELECT m.account, m.id, m.archived FROM message AS m
                WHERE m.account = old_accounts[key.n] AND m.id = key.id OFFSET 0) AS stored
            ON CONFLICT DO NOTHING;
            IF (SELECT count(*) FROM unnest(old_ids) WITH ORDINALITY AS key (id, n) WHERE (
                SELECT true FROM message AS m WHERE m.account = old_accounts[key.n] AND m.id = key.id) IS NULL) > 0 THEN
                RAISE EXCEPTION 'a message went away meanwhile' USING ERRCODE = 'serialization_failure';
            END IF;
        END IF;
    END IF;

    FOR n IN 1 .. cardinality(held_id) LOOP
        target := CASE WHEN held_to[n] = ANY (able) THEN held_to[n] ELSE 0 END;
        PERFORM FROM message_open AS o
        WHERE o.account = numbers[held_account[n]] AND o.id = held_id[n] AND o.holder = target;
        IF NOT FOUND THEN
            UPDATE message_open AS o SET holder = target
            WHERE o.account = numbers[held_account[n]] AND o.id = held_id[n] AND o.holder = held_from[n];
        ELSIF target <> held_from[n] THEN
            DELETE FROM message_open AS o
            WHERE o.account = numbers[held_account[n]] AND o.id = held_id[n] AND o.holder = held_from[n];
        END IF;
    END LOOP;

    IF cardinality(returned_id) > 0 THEN
        PERFORM message_return(
            ARRAY (SELECT numbers[place] FROM unnest(returned_account) AS place), returned_id, returned_holder);
    END IF;

    IF cardinality(delivered_id) > 0 THEN
        -- One row; as long as its query is open, a place that somebody else empties is not given to another row.
        FOR places, gone_accounts, gone_ids IN
            SELECT array_agg(open.place), array_agg(open.account) FILTER (WHERE NOT open.archived),
                array_agg(open.id) FILTER (WHERE NOT open.archived)
            FROM generate_series(1, cardinality(delivered_id)) AS n CROSS JOIN LATERAL (
                SELECT o.ctid AS place, o.account, o.id, o.archived FROM message_open AS o
                WHERE o.account = numbers[delivered_account[n]] AND o.id = delivered_id[n] OFFSET 0) AS open
        LOOP
            IF gone_ids IS NOT NULL THEN
                PERFORM message_lock(gone_accounts, gone_ids);
            END IF;
            DELETE FROM message_open WHERE ctid = ANY (places);
            GET DIAGNOSTICS deleted = ROW_COUNT;
            IF gone_ids IS NOT NULL THEN
                DELETE FROM message WHERE ctid = ANY (ARRAY (
                    SELECT stored.place FROM unnest(gone_ids) WITH ORDINALITY AS key (id, n) CROSS JOIN LATERAL (
                        SELECT m.ctid AS place FROM message AS m
                        WHERE m.account = gone_accounts[key.n] AND m.id = key.id OFFSET 0) AS stored));
            END IF;
        END LOOP;
        IF deleted < cardinality(places) THEN
            -- Some were changed meanwhile: others may have come in their place.
            FOR n IN 1 .. cardinality(delivered_id) LOOP
                PERFORM message_lock(ARRAY[numbers[delivered_account[n]]], ARRAY[delivered_id[n]]);
                DELETE FROM message_open AS o
                WHERE o.account = numbers[delivered_account[n]] AND o.id = delivered_id[n];
                DELETE FROM message AS m
                WHERE m.account = numbers[delivered_account[n]] AND m.id = delivered_id[n] AND NOT m.archived;
            END LOOP;
        END IF;
    END IF;
END
$$;

-- Hands out the oldest messages that wait, at most `most`, and no more when there are `bytes` of them; or `these` of them.
-- What `own` has already does not wait any more, and is not handed out again. None: there are none, or others were faster,
-- with these.
CREATE FUNCTION message_claim(own bigint, address text, most integer, bytes bigint, these uuid[])
RETURNS TABLE (id uuid, peer text, archived boolean, stanza bytea) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    number bigint := (SELECT a.id FROM account AS a WHERE a.jid = address);
    waiting uuid[];
    taken uuid[];
BEGIN
    PERFORM may_write(own, ARRAY[own]);
    -- Lost with the machine's power, the claim leaves the messages waiting, as it should.
    PERFORM set_config('synchronous_commit', 'off', true);
    IF these IS NULL THEN
        waiting := ARRAY (
            SELECT o.id FROM message_open AS o WHERE o.account = number AND o.holder = 0 ORDER BY o.id LIMIT most);
    ELSE
        waiting := ARRAY (
            SELECT key FROM unnest(these) AS key WHERE (
                SELECT true FROM message_open AS o
                WHERE o.account = number AND o.id = key AND o.holder = 0) ORDER BY key);
    END IF;
    PERFORM message_lock(array_fill(number, ARRAY[cardinality(waiting)]), waiting);
    DELETE FROM message_open AS o WHERE o.account = number AND o.id = ANY (waiting) AND o.holder = 0
    AND (SELECT true FROM message_open AS mine
        WHERE mine.account = number AND mine.id = o.id AND mine.holder = own) IS NOT NULL;
    taken := ARRAY (
        SELECT sized.id FROM (
            SELECT o.id, row_number() OVER by_age AS n, sum(size.of) OVER by_age - size.of AS before
            FROM message_open AS o CROSS JOIN LATERAL (
                SELECT octet_length(m.stanza) AS of FROM message AS m
                WHERE m.account = number AND m.id = o.id OFFSET 0) AS size
            WHERE o.account = number AND o.id = ANY (waiting) AND o.holder = 0
            WINDOW by_age AS (ORDER BY o.id)) AS sized
        WHERE sized.n = 1 OR sized.before < bytes);
    WITH mine AS (
        UPDATE message_open AS o SET holder = own WHERE o.account = number AND o.id = ANY (taken) AND o.holder = 0
        RETURNING o.id
    )
    SELECT array_agg(mine.id) INTO taken FROM mine;
    RETURN QUERY SELECT m.id, m.peer, m.archived, m.stanza FROM unnest(taken) AS key CROSS JOIN LATERAL (
        SELECT * FROM message AS m WHERE m.account = number AND m.id = key OFFSET 0) AS m ORDER BY m.id;
END
$$;

-- What `gone` had in flight waits: up to `most` messages. Returns the accounts that they are for, each once. None:
-- there are none.
CREATE FUNCTION message_release(own bigint, gone bigint, most integer) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    accounts bigint[];
    ids uuid[];
BEGIN
    PERFORM may_write(own, ARRAY[own]);
    LOOP
        SELECT array_agg(had.account), array_agg(had.id) INTO accounts, ids FROM (
            SELECT o.account, o.id FROM message_open AS o WHERE o.holder = gone AND o.holder <> 0 LIMIT most) AS had;
        EXIT WHEN ids IS NULL;
        PERFORM message_lock(accounts, ids);
        PERFORM message_return(accounts, ids, array_fill(gone, ARRAY[cardinality(ids)]));
        RETURN QUERY SELECT found.jid FROM (SELECT DISTINCT key FROM unnest(accounts) AS key) AS keys
        CROSS JOIN LATERAL (
            SELECT a.jid::text FROM account AS a WHERE a.id = keys.key OFFSET 0) AS found;
        -- Otherwise all of them are left of accounts that were removed.
        EXIT WHEN FOUND;
    END LOOP;
END
$$;

-- The same for all messages of one account; which.
CREATE FUNCTION message_release_account(own bigint, address text, gone bigint) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    number bigint := (SELECT a.id FROM account AS a WHERE a.jid = address);
    ids uuid[];
BEGIN
    PERFORM may_write(own, ARRAY[own]);
    -- By the key: the other index would have all messages that it holds, and is not asked without `o.holder <> 0`.
    ids := ARRAY (SELECT o.id FROM message_open AS o WHERE o.account = number AND o.holder = gone AND gone <> 0);
    PERFORM message_lock(array_fill(number, ARRAY[cardinality(ids)]), ids);
    PERFORM message_return(
        array_fill(number, ARRAY[cardinality(ids)]), ids, array_fill(gone, ARRAY[cardinality(ids)]));
    RETURN QUERY SELECT unnest(ids);
END
$$;

-- Deletes up to `most` delivered messages older than `before`, the oldest first. How many.
CREATE FUNCTION message_expire(own bigint, before uuid, most integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    places tid[];
    deleted bigint;
BEGIN
    PERFORM may_write(own, ARRAY[own]);
    SELECT array_agg(old.place) INTO places FROM (
        SELECT m.ctid AS place FROM message AS m WHERE m.archived AND m.id < before
        AND (SELECT true FROM message_open AS o WHERE o.account = m.account AND o.id = m.id LIMIT 1) IS NULL
        ORDER BY m.id LIMIT most FOR UPDATE SKIP LOCKED) AS old;
    -- Once more, as they are locked: one may wait again.
    DELETE FROM message AS m WHERE m.ctid = ANY (places)
    AND (SELECT true FROM message_open AS o WHERE o.account = m.account AND o.id = m.id LIMIT 1) IS NULL;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END
$$;

-- Numbers of accounts that were removed. They stay for a while after all that they have left is deleted: whoever saw
-- the account while it was removed may write a row behind it.
CREATE TABLE account_removed (
    account bigint PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now()
);

-- Deletes up to `most` messages of a removed account; null: of one that was removed long enough ago, and forgets it
-- then. False: there is nothing more to do.
CREATE FUNCTION account_sweep(own bigint, removed bigint, most integer) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    number bigint := removed;
BEGIN
    PERFORM may_write(own, ARRAY[own]);
    IF removed IS NULL THEN
        SELECT r.account INTO number FROM account_removed AS r WHERE r.at < now() - interval '10 minutes'
        LIMIT 1 FOR UPDATE SKIP LOCKED;
    END IF;
    DELETE FROM message_open AS o WHERE o.account = number;
    DELETE FROM message WHERE ctid = ANY (ARRAY (SELECT m.ctid FROM message AS m WHERE m.account = number LIMIT most));
    IF FOUND THEN
        RETURN true;
    END IF;
    IF removed IS NULL THEN
        DELETE FROM account_removed AS r WHERE r.account = number;
    END IF;
    RETURN removed IS NULL AND number IS NOT NULL;
END
$$;
