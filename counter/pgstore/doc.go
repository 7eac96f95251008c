// Package pgstore keeps a count in PostgreSQL, or one for each of many names, shared
// by any number of replicas, exactly once, at the speed of group commit.
//
// # What it promises
//
//   - A batch whose Add returned nil was added exactly once, is durable, and is
//     on the synchronous standby, if there is one.
//   - A batch whose Add returned an error was added once or never; with ErrFull,
//     never.
//   - An Add, of 0 too, sees every batch whose Add had returned before it began,
//     through any replica, before or after a failover.
//   - Add returns when its context or Options.Timeout ends, whatever the network
//     does.
//
// It assumes that an acknowledged commit stays (fsync on, full_page_writes on),
// and that a failover goes to a standby that commits waited for
// (synchronous_standby_names), with the old primary unable to commit any more.
//
// # How
//
// Two tables matter. counterd_counter has a row per counter: its value.
// counterd_replica has a bookkeeping row per running replica: its random id, the
// sequence number and a random token of the last batch that was counted, and the
// total after it. A replica inserts its row once, at start. A batch is one
// transaction, sent as one message:
//
//	BEGIN ISOLATION LEVEL READ COMMITTED;
//	SET LOCAL statement_timeout = 2250;
//	SET LOCAL client_min_messages = warning;
//	SELECT seq, token, set_config('synchronous_commit', …, true)                    -- lock
//	  FROM counterd_replica WHERE id = '…' FOR UPDATE;
//	WITH c AS (                                                                     -- count
//	  UPDATE counterd_counter SET value = value + 17 WHERE name = 'default'
//	  AND value >= 0
//	  AND EXISTS (SELECT 1 FROM counterd_replica WHERE id = '…' AND seq < 42)
//	  RETURNING value)
//	UPDATE counterd_replica SET                                                     -- and stamp
//	  total = CASE WHEN seq < 42 THEN (SELECT value FROM c) ELSE total END,
//	  token = CASE WHEN seq < 42 THEN 8675309 ELSE token END,
//	  seq   = CASE WHEN seq < 42 THEN 42 ELSE seq END,
//	  attempts = attempts + 1, seen = now()
//	  WHERE id = '…' RETURNING total;
//	COMMIT
//
// Whatever happens to the connection, the very same batch is sent again until
// the outcome is known or the time is over. That is safe:
//
//   - At most once. An attempt counts only if seq < 42, and it sets seq to 42 in
//     the same transaction. Attempts of a replica exclude each other: each holds
//     the bookkeeping row's lock from its first statement to its end. An earlier
//     attempt may still be running on the server after its connection died; the
//     next one then waits at the lock until that has ended. Under READ COMMITTED
//     each statement has a snapshot of its own, so count and stamp, one statement
//     that begins when the lock is held, sees what the earlier attempt committed;
//     and as nobody else can change the row then, both see the same. Under
//     REPEATABLE READ or SERIALIZABLE (a database may not know READ COMMITTED)
//     the attempt fails with 40001 instead, and is sent again.
//   - At least once, if answered. Lock returns the sequence number as it was:
//     below 42, this attempt counted; 42 with the batch's token, an earlier one
//     had, and total is the one it got. Both come with the transaction's COMMIT.
//     Any other number or token is a double's, a copied virtual machine's, which
//     has this one's memory: nothing of it is answered.
//   - Never later. The next batch has number 43. Once it has committed, nothing
//     that is left of 42 on a server or in a network can count. So a batch that
//     was given up with its outcome unknown needs no resolving; and whether it
//     counted before is up to the server.
//   - No row, no count. If lock finds no row, it was cleaned up because nobody
//     used it for a long time (or the database was set back). The attempt has
//     counted nothing; what earlier attempts of the batch did can't be known any
//     more. So a batch of which this is the first attempt is sent again under a
//     new id, and one with an earlier attempt of unknown outcome fails.
//
// A commit that waits for its synchronous standby can be interrupted: the
// session is terminated, the wait is cancelled, the server is restarted. The
// transaction is then visible on the primary, but on no standby. So it isn't
// enough to find a batch applied: the retry commits a write of its own, the
// attempts column, and that commit waits for the standby, which then has all
// that came before it. For the same reason a read isn't a SELECT but a batch
// that adds 0. When only the wait is cancelled, PostgreSQL reports success, with
// a warning; here the warning makes the outcome unknown.
//
// That the commit waits, and that the warning is sent, each transaction demands
// for itself (synchronous_commit at least on, client_min_messages). Whatever was
// true when the session began, an administrator may have changed it since, and
// behind a pooler the session is another one. For the same reason a connection
// is made from what password file, service file and certificates say then.
//
// A value below 0 is no count: a batch finds no row, and fails. A counter is made
// by the first replica that uses its name; counterd_known remembers the name, so
// that a row which was deleted by mistake doesn't begin at 0 again.
//
// The order of locks is always bookkeeping rows, then the counter's row; who
// holds the latter waits for nobody. So there are no deadlocks among replicas.
//
// # Many names
//
// With Options.PerPath the counter's row has the sum, how many names there are and
// how long they are together; counterd_path has a row for each name. A batch, of
// reads too, locks the counter's row in a statement of its own, after the
// bookkeeping row. So batches of all replicas follow one another, and the statement
// that comes next, whose snapshot is younger than the lock, sees all of those before
// it and none beside it: each name and the sum at one moment. That statement looks
// the names up, refuses new ones for which there is no room, adds by one upsert, in
// order of names, and stamps the bookkeeping row as above. There the totals of the
// batch stand too, with NULL for what was refused: a retry answers from them, and
// not from what the names have by then.
//
// # Why one message in the simple protocol
//
// The server starts only when it has the whole message, so a link that dies in
// the middle of one leaves no open transaction that holds the lock. It is plain
// SQL with an explicit transaction, so databases that speak PostgreSQL's protocol
// serve too. What is put into the text is a number, a hexadecimal id or name, or a
// counter's name of safe characters.
//
// The statements are prepared in SQL and sent as EXECUTE, since parsing and
// planning them each time nearly doubles what a batch costs the server. Behind a
// pooler in transaction mode a session is somebody else's later. Preparing one
// that is prepared already then fails, or executing in one that isn't; neither
// counts anything, and from then on the statements go out in full.
package pgstore
