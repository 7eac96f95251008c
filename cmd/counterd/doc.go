// Counterd is an HTTP server that counts: every request is a hit and is
// answered with its number.
//
// This package only resolves the command line and the environment into a
// configuration, wires the parts together, and follows signals and systemd.
// What counterd does is in packages engine, counter and admin.
package main
