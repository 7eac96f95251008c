// Package blackbox tests counterd from outside: every engine with every store,
// over real sockets, and the finished program under attack. It has tests only.
package blackbox
