//go:build !plantedbugs

package counter

// plant returns the store as it is. Only the crash tests' build puts bugs in, on
// purpose, to prove that they would find them.
func plant(s Store) Store { return s }
