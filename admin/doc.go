// Package admin is the listener for those who look after a counterd: metrics
// for Prometheus, health for orchestrators, profiles, a live page, and the list of
// counters where there are many.
//
// What it promises: it never counts and never delays counting or a stop. At most
// one question to the store is on its way at a time, however many ask, and at most
// one list of counters from the live page, two from /counters and one export. Memory
// stays bounded: connections and live streams have a cap, and whoever doesn't read
// is cut. What a store says and how counters are named is text, whatever octets
// it holds. Bound to loopback it answers only requests that name loopback as their
// host, so that a web page elsewhere can't reach it through a name it controls (DNS
// rebinding).
package admin
