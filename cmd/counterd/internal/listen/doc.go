// Package listen opens the counting listener: a new one, one that shares its port
// with other processes, or one that systemd has opened.
package listen
