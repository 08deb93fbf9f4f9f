-- Migrations only add: release N-1 must be able to read and write what release N has migrated. What is no longer used
-- is dropped one release later, by a migration that sets user_version to the last one that a program must know.

CREATE TABLE account (
    -- The bare JID, normalised.
    jid TEXT NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- What SCRAM keeps of a password (RFC 5802 section 3), one row for each hash function.
CREATE TABLE verifier (
    jid TEXT NOT NULL REFERENCES account (jid) ON DELETE CASCADE,
    -- 'SHA-1', 'SHA-256', 'SHA-512'
    hash TEXT NOT NULL,
    salt BLOB NOT NULL,
    iterations INTEGER NOT NULL,
    stored_key BLOB NOT NULL,
    server_key BLOB NOT NULL,
    PRIMARY KEY (jid, hash)
) STRICT, WITHOUT ROWID;

-- Secrets that the server made for itself.
CREATE TABLE secret (
    name TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
