-- Format 2. One file holds any number of hubs.
--
-- Rows of an instance carry its key `inst` = part * 2^40 + number: numbers count up within a partition, so
-- that rows arrive in key order, and a partition is one range. Times are ticks of 100 ns since 1970.
--
-- `sum` is the xxh3 of everything else in its row, the key included (see sums.rs): a row that is not the one that was
-- written, or not the one that was asked for, is never taken for it. Each page has a checksum too (crate taskhub-pages).
-- The row of an instance, and of a partition, says how many rows belong to it, so that one that is missing is noticed.

CREATE TABLE store (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  epoch_floor INTEGER NOT NULL,            -- above every epoch of a deleted hub: no fence is issued twice (A21)
  is_open INTEGER NOT NULL,                -- somebody has it, or had it and did not close it: then there must be a log
  log_salt INTEGER NOT NULL,               -- first salt of that log, or of an earlier round of it; -1 until it is known
  log_before INTEGER NOT NULL,             -- what that was before this log was begun
  sum INTEGER NOT NULL
) STRICT;

CREATE TABLE hub (
  hub INTEGER PRIMARY KEY,
  folded TEXT NOT NULL UNIQUE,             -- names are compared without case (A6)
  name TEXT NOT NULL,
  partitions INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  sum INTEGER NOT NULL
) STRICT;

CREATE TABLE part (
  part INTEGER PRIMARY KEY,
  hub INTEGER NOT NULL,
  ix INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  is_clean INTEGER NOT NULL,               -- given back after a clean stop (A18)
  next_seq INTEGER NOT NULL,
  next_number INTEGER NOT NULL,
  items INTEGER NOT NULL,                  -- rows of `outbox`
  sum INTEGER NOT NULL,
  UNIQUE (hub, ix)
) STRICT;

CREATE TABLE instance (
  inst INTEGER PRIMARY KEY,
  hub INTEGER NOT NULL,
  id TEXT NOT NULL,
  status INTEGER NOT NULL,                 -- number of the protocol (R4)
  ordinal INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  completed_at INTEGER,
  history_events INTEGER NOT NULL,
  history_bytes INTEGER NOT NULL,
  next_message INTEGER NOT NULL,
  next_occurrence INTEGER NOT NULL,
  waits INTEGER NOT NULL,                  -- rows of `pending`
  keys INTEGER NOT NULL,                   -- rows of `seen_key`
  execution BLOB NOT NULL,
  name TEXT NOT NULL,
  version TEXT,
  stalled_at INTEGER,
  stalled_attempts INTEGER,
  stalled_reason TEXT,
  info BLOB,                               -- what has no column: planned start, tags, parent, failure; usually NULL
  custom ANY, output ANY, input ANY,       -- the bytes, or an integer: their fingerprint, and they are in table `payload`
  sum INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX instance_id ON instance (hub, id);
-- The order of every listing (R13). Completed rows are nearly all rows, so this index with a filter finds
-- a page of them at once; the others are few among many and have indexes of their own.
CREATE INDEX instance_created ON instance (hub, created_at, id);
CREATE INDEX instance_open ON instance (hub, status, created_at, id) WHERE status IN (0, 2, 6, 7);
CREATE INDEX instance_bad ON instance (hub, status, created_at, id) WHERE status IN (3, 4, 5);

-- Kept apart, so that a turn does not rewrite its instance's large input. It and the three below have rows with numbers, and
-- an index for their keys: in a table without, SQLite reads each row that it passes on its way to another as a whole, however
-- large. Rows are appended, so this is also faster.
CREATE TABLE payload (
  inst INTEGER NOT NULL,
  place INTEGER NOT NULL,                  -- 0 custom status, 1 output, 2 input
  ordinal INTEGER NOT NULL,                -- of the execution whose input it is, else 0
  sum INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (inst, place, ordinal)
) STRICT;

CREATE TABLE history (
  inst INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  first INTEGER NOT NULL,                  -- position of the first event in the chunk
  events INTEGER NOT NULL,
  is_cut INTEGER NOT NULL,                 -- the input of its start is not in it, but with the instance or in `payload`
  sum INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (inst, ordinal, first)
) STRICT;

CREATE TABLE pending (
  inst INTEGER NOT NULL,
  lane INTEGER NOT NULL,                   -- 0 inbox, 1 what is open
  ev INTEGER NOT NULL,                     -- message number or occurrence, per instance and never reset (A30)
  kind INTEGER NOT NULL,                   -- 0 message, 1 task, 2 timer, 3 child
  due_at INTEGER,                          -- of timers
  deliveries INTEGER,                      -- of tasks; counts over that in the body (R183)
  is_cut INTEGER NOT NULL,                 -- as in `history`, of a message that starts an execution
  sum INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (inst, lane, ev)
) STRICT;

CREATE TABLE outbox (                      -- by partition, so that purging the sender loses nothing (A29)
  part INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  ix INTEGER NOT NULL,
  sum INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (part, seq, ix)
) STRICT;

CREATE TABLE seen_key (
  inst INTEGER NOT NULL,
  seq INTEGER NOT NULL,                    -- of the commit that brought it: the order of arrival
  key TEXT NOT NULL,
  until INTEGER NOT NULL,
  sum INTEGER NOT NULL,
  PRIMARY KEY (inst, seq)
) WITHOUT ROWID, STRICT;

CREATE TABLE status_count (                -- kept by the commits themselves (I8)
  part INTEGER NOT NULL,
  status INTEGER NOT NULL,
  n INTEGER NOT NULL,
  sum INTEGER NOT NULL,
  PRIMARY KEY (part, status)
) WITHOUT ROWID, STRICT;
