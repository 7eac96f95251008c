// Package dirstore keeps a count for each of many names in a directory, at the price
// of one write and one fdatasync per commit.
//
// All counters are in memory. A commit appends the new counts of those that it
// changed to a log; now and then a snapshot of all takes the place of what the log
// has.
//
// The log is our own: hashicorp/raft-wal costs as much for one name and up to twice as
// much for fifty, makes and deletes files as it goes, and keeps a second database, of
// bbolt, for where its segments are. What is left to write is a page of code, and the
// simulated disk can go through it operation by operation.
//
// # The directory
//
//	log       where commits go; as long as the store lives it is one file of one size
//	snapshot  all counters at some position of the log
//	.*.new-*  a file that is being made; after a crash the next process removes it
//
// Whoever has the store open has the log locked. All numbers are little-endian, all
// checksums CRC-32C; a uvarint is encoding/binary's.
//
// # The log
//
// It is made whole, with zeros, so that a commit never changes its size or asks the
// filesystem for room, and a sync needs no journal.
//
//	offset 0        the header, 4096 bytes
//	       4096     half 0, for even generations
//	       4096+h   half 1, for odd ones; the file ends with it
//
// The header is never written again:
//
//	 0  8  magic "cntd-log"
//	 8  4  version, 1
//	12  8  the store's id, random
//	20  8  h, the bytes of a half; 16 MiB unless a test made it
//	28  4  checksum of the 28 bytes before
//
// A generation is one use of a half: records from its beginning on, each on sectors
// of 512 bytes that it shares with no other, so that writing one never tears another.
// One that doesn't fit any more begins the next generation, in the other half.
//
//	 0  8  magic "cntd-rec"
//	 8  8  the store's id
//	16  8  generation, from 1
//	24  8  sequence, one more with each record
//	32  8  sum of all counters after it
//	40  4  bytes of the body, at most 1 MiB
//	44  4  the checksum in the record before
//	48  4  checksum of the 48 bytes before and the body
//	52     the body: an entry for each counter that changed, in any order
//	       a known one: uvarint its number + 1, uvarint its count
//	       a new one:   uvarint 0, uvarint length of its name, the name, uvarint its count
//
// Counters are numbered from 0 in the order in which they were made. The body holds
// counts, not what was added, so nothing is counted twice. The rest of the last sector
// is zero and not looked at. The first record of a store has no entries: from then on
// a log that holds a record and has no snapshot is damage, and no store that was never
// finished.
//
// # The snapshot
//
//	 0  8  magic "cntd-snp"
//	 8  4  version, 1
//	12  8  the store's id
//	20  8  position in the log: generation
//	28  8    bytes from the beginning of its half
//	36  8    sequence of the record before it
//	44  4    checksum of the record before it (after a change by hand: a random number)
//	48  8  how many counters
//	56  8  their sum
//	64  4  zero
//	68  4  checksum of the 68 bytes before
//	72     blocks of up to 256 KiB, until all counters are there:
//	       4  bytes of the payload
//	       4  checksum, begun with that of the header, of the block's number (8 bytes) and the payload
//	          the payload: for each counter uvarint length of its name, the name, uvarint its count
//	    8  sequence of the last record that was on disk when the snapshot was
//	    4  checksum, begun with that of the header, of the 8 bytes before
//
// When a generation begins, a snapshot of the counters as they are then is written to
// a new file while counting goes on, in pieces, each synced before the next; it is
// synced, renamed, and the directory is synced. Only then the half of the generation
// before may be used again. A snapshot that can't be written is thrown away and tried
// again a second later; counting goes on as long as the log has room. A failed write
// or sync of the log itself ends the store: the kernel may have marked the page as
// clean and forgotten the failure.
//
// # Why it survives
//
// A disk may tear a write: each 512-byte sector of it is then old or new, or one
// sector is a mix. A record is written only after the one before it was synced, so a
// crash can tear the last record only, which nobody was answered for, and it leaves
// all others whole. What a process reads at its start may be in the page cache only,
// when the one before was killed between write and sync; so opening syncs the
// directory, writes the last record again, in its place, and syncs it, before the
// first answer.
//
// Reading begins with the snapshot and goes on with the records from its position on:
// each must carry the next sequence and the checksum of the one before, and after
// each the sum must be right. Where that ends, no record with a higher sequence may be
// anywhere in the log; the record before the snapshot's position must be there; and
// the log must have come as far as it had when the snapshot was made. So a part that
// is rotten, missing, of another store or of another time is an error, never an older
// count. Two things can't be told from a crash: rot in the very last record, which
// reads as torn, and a log put back to what it was after the present snapshot was
// made. A whole directory that was put back is what it was then.
package dirstore
