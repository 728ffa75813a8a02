-- A database as version 4 wrote it: with verdicts. Never changed; see versions.rs.
PRAGMA application_id = 1148340076;
PRAGMA user_version = 4;
BEGIN;
CREATE TABLE devices (
    id              INTEGER PRIMARY KEY,
    site            TEXT    NOT NULL,
    device          TEXT    NOT NULL,
    epoch           INTEGER NOT NULL DEFAULT 0, -- the mark
    sequence        INTEGER NOT NULL DEFAULT 0,
    first_seen      INTEGER NOT NULL,           -- times are milliseconds since 1970, by the aggregator's clock
    last_seen       INTEGER NOT NULL,
    version         TEXT    NOT NULL DEFAULT '',
    hello_epoch     INTEGER,                    -- who greeted last
    hello_instance  INTEGER,
    clock_ahead     INTEGER,                    -- the agent's clock minus ours when it greeted last
    clones          INTEGER NOT NULL DEFAULT 0, -- greetings of another instance in the same epoch
    accepted        INTEGER NOT NULL DEFAULT 0, -- records
    duplicates      INTEGER NOT NULL DEFAULT 0,
    gaps            INTEGER NOT NULL DEFAULT 0,
    overlaps        INTEGER NOT NULL DEFAULT 0,
    lost            INTEGER NOT NULL DEFAULT 0, -- windows that tombstones stand for
    UNIQUE (site, device)
) STRICT;

CREATE TABLE cameras (
    id              INTEGER PRIMARY KEY,
    device          INTEGER NOT NULL REFERENCES devices (id),
    camera          TEXT    NOT NULL,
    frames          INTEGER NOT NULL,           -- totals over all windows ever accepted
    windows         INTEGER NOT NULL,           -- merged ones count as many as they merge
    missing         INTEGER NOT NULL,
    undecodable     INTEGER NOT NULL,
    skipped         INTEGER NOT NULL,
    late            INTEGER NOT NULL,
    last_start      INTEGER,                    -- the newest window, in event time
    last_length     INTEGER,
    last_merged     INTEGER,
    model_name      TEXT,                       -- of the newest window
    model_version   TEXT,
    UNIQUE (device, camera)
) STRICT;

CREATE TABLE windows (
    id              INTEGER PRIMARY KEY,
    camera          INTEGER NOT NULL REFERENCES cameras (id),
    start           INTEGER NOT NULL,           -- event time, milliseconds since 1970
    length          INTEGER NOT NULL,
    merged          INTEGER NOT NULL,
    frames          INTEGER NOT NULL,
    missing         INTEGER NOT NULL,
    undecodable     INTEGER NOT NULL,
    skipped         INTEGER NOT NULL,
    late            INTEGER NOT NULL,
    received        INTEGER NOT NULL,
    damaged         INTEGER NOT NULL DEFAULT 0, -- the frame was found not to parse, and is left out from then on
    frame           BLOB    NOT NULL            -- the whole wire frame, checksum included
) STRICT;
CREATE INDEX windows_of_a_camera ON windows (camera, start);
CREATE INDEX windows_by_age ON windows (start);

CREATE TABLE tombstones (
    id              INTEGER PRIMARY KEY,
    device          INTEGER NOT NULL REFERENCES devices (id),
    epoch           INTEGER NOT NULL,
    first           INTEGER NOT NULL,
    last            INTEGER NOT NULL,
    cause           TEXT    NOT NULL,
    start           INTEGER NOT NULL,
    end             INTEGER NOT NULL,
    received        INTEGER NOT NULL
) STRICT;
CREATE INDEX tombstones_of_a_device ON tombstones (device, start);
CREATE INDEX tombstones_by_age ON tombstones (start);

CREATE TABLE camera_states (
    camera          INTEGER PRIMARY KEY REFERENCES cameras (id),
    state           BLOB    NOT NULL
) STRICT;

CREATE TABLE baselines (
    camera          INTEGER NOT NULL REFERENCES cameras (id),
    version         INTEGER NOT NULL,
    learned_at      INTEGER NOT NULL,
    baseline        BLOB    NOT NULL,
    PRIMARY KEY (camera, version)
) STRICT;

CREATE TABLE alerts (
    id              INTEGER PRIMARY KEY,
    camera          INTEGER NOT NULL REFERENCES cameras (id),
    scope           TEXT    NOT NULL,
    cause           TEXT    NOT NULL,
    severity        TEXT    NOT NULL,
    state           TEXT    NOT NULL,
    first_window    INTEGER NOT NULL,
    raised_at       INTEGER NOT NULL,
    alert           TEXT    NOT NULL            -- all of it as JSON, its history included
) STRICT;
CREATE INDEX alerts_by_state ON alerts (state, raised_at);
CREATE INDEX alerts_of_a_camera ON alerts (camera, raised_at);

INSERT INTO devices VALUES (1,'store-12','gw-01',1700000000,42,1700000001000,1700000101000,'0.1.0',1700000000,-5,250,1,2,3,4,5,6);
INSERT INTO devices VALUES (2,'store-12','gw-02',0,0,1700000002000,1700000002000,'',NULL,NULL,NULL,0,0,0,0,0,0);
INSERT INTO cameras VALUES (1,1,'entrance',4,2,1,2,3,5,1700000040000,60000,2,'people-detector','3.2.0');
INSERT INTO cameras VALUES (2,1,'yard',0,0,0,0,0,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO windows VALUES (1,1,1700000040000,60000,2,4,1,2,3,5,1700000101000,0,X'670000000101cd6ae48b80e2cfaa06292ac0dd92aa06070008656e7472616e6365010f70656f706c652d6465746563746f7205332e322e308091b0fef962e0d4030201c892b0fef96201f8b8b7fef96204010203050200000803640201019a0101140303010701');
INSERT INTO windows VALUES (2,1,1700000100000,60000,1,9,0,0,0,0,1700000161000,1,X'00');
INSERT INTO tombstones VALUES (1,1,1699999999,7,12,'spool-full',1699990000000,1699999990000,1700000001500);
INSERT INTO camera_states VALUES (1,X'0102030405');
INSERT INTO baselines VALUES (1,1,1699999000000,X'aa');
INSERT INTO baselines VALUES (1,2,1700000000000,X'bb');
INSERT INTO alerts VALUES (3,1,'camera','frozen','high','alerting',1700000040000,1700000100000,'{"id":3,"camera":{"device":{"site":"store-12","device":"gw-01"},"camera":"entrance"},"scope":"camera","cause":"frozen","severity":"high","state":"alerting","first_window":1700000040000,"raised_at":1700000100000,"features":[{"feature":3,"distance":0.25,"shift":-1.5}],"history":[{"at":1700000100000,"state":"alerting","author":"driftglass","note":""}]}');
INSERT INTO alerts VALUES (4,1,'camera','dark','low','resolved',1700000040000,1700000100000,'{"id":4,"camera":{"device":{"site":"store-12","device":"gw-01"},"camera":"entrance"},"scope":"camera","cause":"dark","severity":"low","state":"resolved","first_window":1700000040000,"raised_at":1700000100000,"features":[{"feature":3,"distance":0.25,"shift":-1.5}],"history":[{"at":1700000100000,"state":"resolved","author":"driftglass","note":""}]}');

ALTER TABLE devices ADD COLUMN key_hash BLOB;               -- SHA-256 of the public key registered
ALTER TABLE devices ADD COLUMN enrolled_at INTEGER;         -- when that key was
ALTER TABLE devices ADD COLUMN certificate_expires_at INTEGER;
ALTER TABLE devices ADD COLUMN revoked_at INTEGER;

CREATE TABLE tokens (
    hash            BLOB    PRIMARY KEY,        -- SHA-256 of the secret, which is kept nowhere
    site            TEXT    NOT NULL,
    device          TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    used_at         INTEGER,
    used_by         BLOB                        -- SHA-256 of the public key that redeemed it
) STRICT;
CREATE INDEX tokens_by_expiry ON tokens (expires_at);

CREATE TABLE revoked_keys (
    key_hash        BLOB    PRIMARY KEY,
    site            TEXT    NOT NULL,           -- whose it was
    device          TEXT    NOT NULL,
    revoked_at      INTEGER NOT NULL
) STRICT;

CREATE TABLE identity_events (
    id              INTEGER PRIMARY KEY,
    at              INTEGER NOT NULL,
    site            TEXT    NOT NULL,
    device          TEXT    NOT NULL,
    action          TEXT    NOT NULL,
    detail          TEXT    NOT NULL
) STRICT;

UPDATE devices SET key_hash = X'1111111111111111111111111111111111111111111111111111111111111111', enrolled_at = 1700000000500, certificate_expires_at = 1702592000000 WHERE id = 1;
UPDATE devices SET revoked_at = 1700000003000 WHERE id = 2;
INSERT INTO tokens VALUES (X'2222222222222222222222222222222222222222222222222222222222222222','store-12','gw-01',1700000000000,1700003600000,1700000000500,X'1111111111111111111111111111111111111111111111111111111111111111');
INSERT INTO tokens VALUES (X'3333333333333333333333333333333333333333333333333333333333333333','store-12','gw-03',1700000000100,1700003600000,NULL,NULL);
INSERT INTO revoked_keys VALUES (X'4444444444444444444444444444444444444444444444444444444444444444','store-12','gw-02',1700000003000);
INSERT INTO identity_events VALUES (1,1700000000500,'store-12','gw-01','enrolled','key 11');
INSERT INTO identity_events VALUES (2,1700000003000,'store-12','gw-02','revoked','stolen');
CREATE TABLE configurations (
    version         INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice
    site            TEXT    NOT NULL,           -- empty: every site
    device          TEXT    NOT NULL,           -- empty: every device of the site
    text            TEXT,                       -- null: the one before was withdrawn
    set_at          INTEGER NOT NULL,
    note            TEXT    NOT NULL
) STRICT;
CREATE INDEX configurations_of_a_scope ON configurations (site, device, version);

CREATE TABLE configuration_reports (            -- what a device said last
    device          INTEGER PRIMARY KEY REFERENCES devices (id),
    in_effect       INTEGER NOT NULL,           -- versions
    offered         INTEGER NOT NULL,
    outcome         TEXT    NOT NULL,           -- of the one offered
    restart         INTEGER NOT NULL,
    detail          TEXT    NOT NULL,
    reported_at     INTEGER NOT NULL
) STRICT;

INSERT INTO configurations VALUES (1,'','','[window]',1700000004000,'shorter windows');
INSERT INTO configurations VALUES (2,'store-12','gw-01',NULL,1700000005000,'as before');
INSERT INTO configuration_reports VALUES (1,1,1,'applied',0,'',1700000006000);

ALTER TABLE alerts ADD COLUMN verdict TEXT;     -- right or false; null where no operator has said
CREATE INDEX alerts_by_time ON alerts (raised_at);

UPDATE alerts SET verdict = 'right', alert = replace(alert, '"id":4,', '"id":4,"verdict":"right",') WHERE id = 4;
COMMIT;
