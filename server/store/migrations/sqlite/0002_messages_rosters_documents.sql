-- Messages: archive, offline store and crash journal in one. Its cost is what it writes: pages of 4 KiB to the write-ahead
-- log, and again to the file. So all that a message writes stands at the end of something: a rowid table, and a key that
-- begins with the time. A key that began with the account would write a page of its own for each row (measured with a
-- million rows, in groups of 256: 19 us of CPU per row with 200 accounts and 31 us with 10,000, against 5 us); without
-- rowid, stanzas of more than 1 KB would have overflow pages of their own (18 us against 7 us).
CREATE TABLE message (
    -- The bare JID of the account. No reference: rows come in floods, and are checked against the accounts as they come.
    account TEXT NOT NULL,
    -- 16 bytes, the highest first: sorts by time.
    id BLOB NOT NULL,
    -- The other side.
    peer TEXT NOT NULL,
    -- 0: sent by the account, 1: received
    direction INTEGER NOT NULL,
    -- 0: delivered, 1: pending, 2: in flight
    state INTEGER NOT NULL,
    -- Whether it stays when it is delivered.
    archived INTEGER NOT NULL,
    stanza BLOB NOT NULL,
    UNIQUE (id, account)
) STRICT;

-- What somebody must still get: few rows, however many there are in all.
CREATE INDEX message_open ON message (account, id, state) WHERE state <> 0;

-- Archived rows by account, in segments of some thousand rows that follow each other in time: a segment is written at once
-- and sorted. Rows behind the last segment are not in it yet; those that come late are put into the segment
-- of their time.
CREATE TABLE message_segment (
    -- The highest id that belongs to it; it begins behind the segment before.
    last BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE message_of (
    segment BLOB NOT NULL,
    account TEXT NOT NULL,
    id BLOB NOT NULL,
    PRIMARY KEY (segment, account, id)
) STRICT, WITHOUT ROWID;

-- RFC 6121 section 2.6: the version of each roster. Of changes up to `forgotten` nothing more is known.
CREATE TABLE roster (
    account TEXT NOT NULL PRIMARY KEY REFERENCES account (jid) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    forgotten INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE roster_item (
    account TEXT NOT NULL REFERENCES account (jid) ON DELETE CASCADE,
    contact TEXT NOT NULL,
    name TEXT,
    -- Separated by U+001F, which XML does not have.
    groups TEXT NOT NULL,
    -- 'none', 'to', 'from', 'both'
    subscription TEXT NOT NULL,
    ask INTEGER NOT NULL,
    -- The contact's request, as long as it is not answered.
    pending_in BLOB,
    approved INTEGER NOT NULL,
    listed INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (account, contact)
) STRICT, WITHOUT ROWID;

-- Items that were removed, for those who know an older version.
CREATE TABLE roster_removed (
    account TEXT NOT NULL REFERENCES account (jid) ON DELETE CASCADE,
    contact TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (account, contact)
) STRICT, WITHOUT ROWID;

-- Small things that extensions keep.
CREATE TABLE document (
    account TEXT NOT NULL REFERENCES account (jid) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (account, kind, key)
) STRICT;
