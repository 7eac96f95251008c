// Package counter turns hits into durable numbers.
//
// Callers hand over batches of hits and reads with [Counter.Submit], or with
// [Counter.Commit], which commits on the caller's own thread if nobody else does.
// While one commit is on its way to the [Store], batches gather; the next commit
// takes all of them, one sum for each counter. So the throughput hardly depends on the latency of the store, and
// no batch waits longer than the commit before it. A store that needs no
// waiting, an [InstantStore], is asked at once, without a hop to another
// goroutine.
//
// # What it promises
//
//   - Every granted hit has a number of its own. Numbers follow the order of
//     submission, within a batch and between batches.
//   - A number is handed out only after the store has said that the total that
//     contains it is durable.
//   - Every batch is settled exactly once, within [Options.Timeout] of Submit
//     whatever the store does: with numbers, or with the reason why not.
//   - Memory is bounded: beyond [Options.MaxWaiting] batches are refused.
//   - A store that can't be trusted any more ([ErrLost]) ends everything: what
//     waits fails, what comes later fails, and [Counter.Lost] is closed.
//
// The package knows nothing of HTTP or of connections.
package counter
