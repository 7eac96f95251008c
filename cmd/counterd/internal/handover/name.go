package handover

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
)

// longest is what the path of a Unix socket may have everywhere: macOS has room for
// 104 bytes with the zero at the end.
const longest = 103

// Name returns where the socket of an existing store is: beside it, or where that is
// too long, in /tmp. All processes that mean the same store get the same name.
func Name(store string) (string, error) {
	path, err := filepath.Abs(store)
	if err != nil {
		return "", err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	if name := path + ".sock"; len(name) <= longest {
		return name, nil
	}
	sum := sha256.Sum256([]byte(path))
	// Not os.TempDir: it may differ between the two.
	return "/tmp/counterd-" + hex.EncodeToString(sum[:16]) + ".sock", nil
}
