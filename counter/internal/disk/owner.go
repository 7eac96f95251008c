package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// giveAway gives what root has just made to the owner of path, or, where there is
// nothing, of its directory: root changes by hand the store of a server that runs as
// another user, and couldn't open what is root's. Where the system doesn't let root do
// that (a container, a network filesystem), it stays root's, as it would be without.
func giveAway(f *os.File, path string) {
	if os.Geteuid() != 0 {
		return
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		info, err = os.Stat(filepath.Dir(path))
	}
	if err != nil {
		return
	}
	if like, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = f.Chown(int(like.Uid), int(like.Gid))
	}
}
