package filestore

import (
	"bytes"
	"testing"

	"github.com/counterd/counterd/counter/internal/disk/simdisk"
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
		d := simdisk.New(simdisk.First{})
		n := d.Put(simPath, content)
		if set(d, simPath, 42) != nil {
			if !bytes.Equal(n.Cache, content) {
				t.Fatal("a refused file was changed")
			}
			return
		}
		if v, err := show(d, simPath); v != 42 || err != nil {
			t.Fatalf("after the repair: %d, %v", v, err)
		}
	})
}
