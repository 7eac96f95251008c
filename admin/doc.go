// Package admin is the listener for those who look after a counterd: metrics
// for Prometheus, health for orchestrators, profiles, and a live page.
//
// What it promises: it never counts and never delays counting or a stop. At most
// one question to the store is on its way at a time, however many ask. Memory
// stays bounded: connections and live streams have a cap, and a viewer that
// doesn't read is cut. Bound to loopback it answers only requests that name
// loopback as their host, so that a web page elsewhere can't reach it through a
// name it controls (DNS rebinding).
package admin
