// Package report makes results readable: a table for the terminal, report.md,
// SVG charts, and a comparison of two runs. It reads results alone, so that a
// report can be made again from results.json.
package report
