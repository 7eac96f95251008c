// Package pgtest starts throw-away PostgreSQL clusters from the binaries that
// are installed, for tests that must meet the real thing: commits, crashes,
// replication and failover.
//
// A cluster is made by New, lives in its own temporary directory, listens on a
// free loopback port and dies with the test. It runs with PostgreSQL's default
// settings, fsync included, unless the test asks for others. A PostgreSQL that
// is missing fails the test: a guarantee that was not tested is not kept.
//
// PostgreSQL refuses to run as root. A test that runs as root starts it as the
// user postgres, or nobody.
package pgtest
