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
package engine
