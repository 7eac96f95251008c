package disk

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

type owner struct{ uid, gid uint32 }

func ownerOf(t *testing.T, path string) owner {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	s := info.Sys().(*syscall.Stat_t)
	return owner{s.Uid, s.Gid}
}

// TestRootLeavesTheStoreToItsOwner: what root makes belongs to whom what it replaces
// belongs to, or the directory.
func TestRootLeavesTheStoreToItsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	give := func(path string, to owner) {
		t.Helper()
		if err := os.Chown(path, int(to.uid), int(to.gid)); err != nil {
			t.Skipf("this root can't give files away: %v", err)
		}
	}
	create := func(path string, want owner) {
		t.Helper()
		f, name, err := OS{}.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got := ownerOf(t, name); got != want {
			t.Errorf("%s belongs to %v, want %v", name, got, want)
		}
	}
	server, mount := owner{12345, 23456}, owner{34567, 45678}
	give(dir, mount)
	file := filepath.Join(dir, "file")
	create(file, mount)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	give(file, server)
	create(file, server)

	sub := filepath.Join(dir, "sub")
	if err := (OS{}).MakeDir(sub); err != nil {
		t.Fatal(err)
	}
	if got := ownerOf(t, sub); got != mount {
		t.Errorf("the directory belongs to %v, want %v", got, mount)
	}
	create(filepath.Join(sub, "file"), mount)
}
