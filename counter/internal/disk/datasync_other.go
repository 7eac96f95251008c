//go:build unix && !linux

package disk

// Datasync is the os package's Sync, which on macOS is F_FULLFSYNC: a plain
// fsync there leaves the data in the drive's cache.
func (f *osFile) Datasync() error { return f.Sync() }

type asyncSync struct{}

func (*asyncSync) close() {}
