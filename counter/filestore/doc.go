// Package filestore keeps a count in one small file, at the price of one write
// and one fdatasync per commit.
//
// # The file
//
// Two slots of 4096 bytes, written in turn, so that the newest durable record is
// never in the block that is being written:
//
//	offset 0     slot 0: the record in bytes 0-31, again in bytes 512-543
//	offset 4096  slot 1: the same
//
// A record, little-endian:
//
//	 0  8  magic "counterd"
//	 8  4  version, 1
//	12  8  sequence, one more with each write; even ones are in slot 0
//	20  8  value: the count, 0 to 2^63-1
//	28  4  CRC-32C of the 28 bytes before
//
// The rest of the 8192 bytes is zero and not looked at. CRC-32C and not a longer
// sum, because at this length it finds for certain what a long hash finds very
// likely: any 5 flipped bits and any burst of up to 32.
//
// # Why it survives
//
// A disk may tear a write: each 512-byte sector of it is then old or new, or
// one sector is a mix. Since both sectors of a slot hold the whole record, one
// of them is whole, old or new. So after any crash each slot has a whole record,
// and their sequences are neighbours. Anything else is damage that no crash
// explains, and an error: the value that is left may be older than one that was
// answered.
//
// What is read at the start may be in the page cache only, when a process was
// killed between write and sync. And of a slot that was torn only one copy may be
// whole, and the next write into that slot may tear just this one. So opening
// writes both records again, each twice and in its place, and syncs them and the
// directory before the first answer.
//
// After a failed write or sync nothing is answered any more: the kernel may have
// marked the page as clean and forgotten the failure.
package filestore
