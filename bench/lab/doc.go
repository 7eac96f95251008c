// Package lab measures contenders in scenarios and keeps what it found.
//
// A scenario is measured in rounds. In each round every contender has one turn
// at every point of the scenario, in random order; each turn starts the
// contender afresh, warms it up, loads it, and then asks it how many requests
// it counted. A figure whose count does not agree with the client's is marked
// invalid and takes part in nothing.
package lab
