package filestore

import (
	"bytes"
	"testing"
)

// Whatever a file holds, reading it neither panics nor invents: what is accepted
// has a whole record of that value and sequence in it, and after the repair by
// hand the file is good.
func FuzzParseFile(f *testing.F) {
	good, _ := healthy()
	f.Add(good)
	f.Add(good[:slotSize])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := parseFile(content)
		if err == nil {
			whole := make([]byte, recordSize+sectorSize)
			r.put(whole)
			if !bytes.Contains(content, whole[:recordSize]) {
				t.Fatalf("%v is nowhere in the file", r)
			}
		}
		d := newSimDisk(&everything{})
		n := &inode{cache: bytes.Clone(content), disk: bytes.Clone(content)}
		d.inodes, d.names[simPath], d.onDisk[simPath] = []*inode{n}, n, n
		if set(d, simPath, 42) != nil {
			if !bytes.Equal(n.cache, content) {
				t.Fatal("a refused file was changed")
			}
			return
		}
		n.locked = false
		if v, err := show(d, simPath); v != 42 || err != nil {
			t.Fatalf("after the repair: %d, %v", v, err)
		}
	})
}
