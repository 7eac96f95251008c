// Package engine serves counterd's HTTP contract over sockets, with three
// models of input and output to choose from and compare:
//
//   - gnet: an event loop per core (epoll, kqueue) and our own HTTP/1.1;
//   - goroutine: a goroutine per connection over package net, with the very
//     same HTTP/1.1 code, so that the difference is the I/O model alone;
//   - std: net/http as its users get it.
//
// The way of a request: the [Server] accepts a connection and hands it to the
// model; the model reads bytes; a session turns them into answers that are
// owed, in order (package httpparse does the framing); the hits and reads among
// them are handed to package counter in batches; when a batch is settled, the
// answers are rendered and written. Nothing here touches a store.
//
// What it promises: on one connection requests take effect and are answered in
// order; memory per connection is bounded whatever the client does; what is
// owed is delivered before a connection is closed; no client can end or spin
// the server. gnet and goroutine answer alike to the byte.
//
// # Words
//
// An answer is owed from when its request is whole until it is written. A
// connection ends with its last answer: we half-close it, read it off while it
// lingers, and close it. It leaves its loop when a goroutine takes it over. A
// session has ended when its last answer is owed or sent. A drain is the way of the
// whole server to its stop; Retire is a drain that goes on accepting. A loop is
// relieved when it waits for a disk that doesn't answer.
package engine
