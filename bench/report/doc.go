// Package report turns results into a page for people: sentences with a ratio
// and its interval each, five charts at most, and an appendix with the rest.
package report
