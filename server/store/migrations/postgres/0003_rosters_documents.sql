-- RFC 6121 section 2.6: the version of each roster. Of changes up to `forgotten` nothing more is known. Whoever changes
-- a roster locks the account's row first.
CREATE TABLE roster (
    account bigint PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    version bigint NOT NULL,
    forgotten bigint NOT NULL
);

CREATE TABLE roster_item (
    account bigint NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    contact text COLLATE "C" NOT NULL,
    name text,
    groups text[] NOT NULL,
    -- 'none', 'to', 'from', 'both'
    subscription text NOT NULL,
    ask boolean NOT NULL,
    -- The contact's request, as long as it is not answered.
    pending_in bytea,
    approved boolean NOT NULL,
    listed boolean NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (account, contact)
);

-- Items that were removed, for those who know an older version.
CREATE TABLE roster_removed (
    account bigint NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    contact text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (account, contact)
);

-- Small things that extensions keep.
CREATE TABLE document (
    account bigint NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    kind text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (account, kind, key)
);
