package report

import (
	"fmt"
	"strings"

	"github.com/counterd/counterd/bench/lab"
	"github.com/counterd/counterd/bench/stat"
)

// figures words what a duel found: both ratios with their intervals, and bold
// what is claimed.
func figures(r *lab.Results, d lab.Duel) string {
	if d.NoClaim != "" {
		return fmt.Sprintf("nothing is claimed, since %s (requests/s %s)", d.NoClaim, times(d.RPS, stat.NoClaim))
	}
	return fmt.Sprintf("%s requests per second, %s CPU",
		times(d.RPS, r.Judge(d, lab.RatioRPS)), times(d.CPU, r.Judge(d, lab.RatioCPU)))
}

// times writes a ratio, bold when it is claimed.
func times(ratio stat.Interval, order stat.Order) string {
	words := factor(ratio.Center) + "×"
	if order == stat.Higher || order == stat.Lower {
		words = "**" + words + "**"
	}
	return fmt.Sprintf("%s (%s–%s)", words, factor(ratio.Lo), factor(ratio.Hi))
}

// factor writes as many places as tell two factors apart.
func factor(v float64) string {
	switch {
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// outcome of a duel for its first contender.
type outcome int

const (
	unclaimed outcome = iota
	loses
	even
	wins
)

// outcomeOf judges both figures: who is slower or dearer loses, also when the
// other figure is better.
func outcomeOf(r *lab.Results, d lab.Duel) outcome {
	rps, cpu := r.Judge(d, lab.RatioRPS), r.Judge(d, lab.RatioCPU)
	switch {
	case rps == stat.NoClaim:
		return unclaimed
	case rps == stat.Lower || cpu == stat.Higher:
		return loses
	case rps == stat.Higher || cpu == stat.Lower:
		return wins
	}
	return even
}

// question asks how one contender stands to another.
type question struct {
	scenario, point, a, b string
	words                 string // "A against B"
	scored                bool   // say which share of HTTP's rules B keeps
}

// answer to a question as one sentence; empty when it was not measured.
func (q question) answer(r *lab.Results) string {
	d, ok := r.Duel(q.scenario, q.point, q.a, q.b)
	if !ok {
		return ""
	}
	words := q.words
	if b := r.About(q.b); q.scored && b.Rules > 0 {
		words += fmt.Sprintf(" (which keeps %s HTTP rules)", score(b))
	}
	return fmt.Sprintf("- %s: %s.\n", words, figures(r, d))
}

// topic is a heading with its questions.
type topic struct {
	title, intro string
	questions    []question
}

var topics = []topic{
	{"What the HTTP stack is worth", "`std` is net/http; `goroutine` has counterd's own stack and still a goroutine per connection; `gnet` has that stack on an event loop.", []question{
		{"pinned", "c=100", "goroutine-mem", "std-mem", "Own stack against net/http, a goroutine per connection either way", true},
		{"pinned", "c=100", "gnet-mem", "std-mem", "Own stack on an event loop against net/http, 100 connections", true},
		{"seed", "c=100", "gnet-mem", "std-mem", "The same with nothing pinned", false},
		{"connections", "c=1", "gnet-mem", "std-mem", "The same, one connection", false},
		{"connections", "c=10", "gnet-mem", "std-mem", "The same, 10 connections", false},
		{"connections", "c=1000", "gnet-mem", "std-mem", "The same, 1,000 connections", false},
		{"connections", "c=10000", "gnet-mem", "std-mem", "The same, 10,000 connections", false},
		{"pipelined", "depth=16", "gnet-mem", "std-mem", "The same, 16 requests deep", false},
	}},
	{"Against others", "counterd's gnet in memory, 100 connections, server on one core.", []question{
		{"pinned", "c=100", "gnet-mem", "fasthttp", "Against fasthttp", true},
		{"pipelined", "depth=16", "gnet-mem", "fasthttp", "Against fasthttp, 16 requests deep", false},
		{"pinned", "c=100", "gnet-mem", "nbio", "Against nbio", true},
		{"pinned", "c=100", "gnet-mem", "nginx", "Against nginx, which answers a constant", true},
		{"pinned", "c=100", "gnet-mem", "stripped-gnet", "Against gnet that only looks for a blank line (stripped)", true},
		{"pinned", "c=100", "gnet-mem", "epoll", "Against C that only looks for a blank line: the floor", true},
		{"pipelined", "depth=16", "gnet-mem", "epoll", "Against that floor, 16 requests deep", false},
	}},
	{"What durability costs", "An answer leaves after its hit is on disk.", []question{
		{"pinned", "c=100", "gnet-file", "gnet-mem", "Durable against memory, gnet", false},
		{"seed", "c=100", "gnet-file", "gnet-mem", "The same with nothing pinned", false},
		{"pinned", "c=100", "gnet-file", "epoll-file", "gnet against C that writes and syncs by itself: the durable floor", false},
		{"connections", "c=1", "gnet-file", "epoll-file", "The same, one connection", false},
		{"seed", "c=100", "gnet-file", "epoll-file", "The same, 100 connections and nothing pinned", false},
		{"connections", "unpinned c=1", "gnet-file", "epoll-file", "The same, one connection and nothing pinned", false},
		{"pinned", "c=100", "goroutine-file", "epoll-file", "goroutine against that floor, 100 connections on one core", false},
		{"connections", "c=1", "goroutine-file", "epoll-file", "The same, one connection", false},
		{"connections", "unpinned c=1", "goroutine-file", "epoll-file", "The same, one connection and nothing pinned", false},
		{"pinned", "c=100", "gnet-file", "redis-always", "Against Redis with appendfsync always, which has another protocol and client", false},
	}},
	{"PostgreSQL", "The same cluster for both. The CPU is the database's too.", []question{
		{"seed", "c=100", "gnet-pg", "seed-asyncio", "gnet against the seed's stack under asyncio", false},
		{"seed", "c=100", "gnet-pg", "seed-uvloop", "Under uvloop", false},
		{"docker", "c=100", "gnet-pg", "seed-asyncio", "In containers, under asyncio", false},
		{"docker", "c=100", "gnet-file", "goroutine-file", "In containers, gnet against goroutine on the durable file", false},
	}},
	{"A counter for every path", "", []question{
		{"paths", "names=10000", "paths-mem", "gnet-mem", "10,000 names against one counter, in memory", false},
		{"paths", "names=1000000", "paths-mem", "gnet-mem", "1,000,000 names against one counter, in memory", false},
		{"paths", "names=10000", "paths-dir", "gnet-file", "10,000 names against one counter, durable", false},
		{"paths", "names=10000, c=1", "paths-dir", "gnet-file", "The same, one connection", false},
		{"paths", "names=10000", "paths-pg", "seed-paths", "10,000 names in PostgreSQL against the seed's stack with a row for each", false},
	}},
}

func (t topic) write(r *lab.Results) string {
	var b strings.Builder
	for _, q := range t.questions {
		b.WriteString(q.answer(r))
	}
	if b.Len() == 0 {
		return ""
	}
	intro := t.intro
	if intro != "" {
		intro += "\n\n"
	}
	return fmt.Sprintf("## %s\n\n%s%s\n", t.title, intro, &b)
}

// loopOrGoroutine answers the report's question, the loop's losses first.
func loopOrGoroutine(r *lab.Results) string {
	lines := map[outcome][]string{}
	for _, d := range inOrder(r.Duels) {
		kind, ok := loopDuels[[2]string{d.A, d.B}]
		if !ok || d.Invalid != "" {
			continue
		}
		o := outcomeOf(r, d)
		lines[o] = append(lines[o], fmt.Sprintf("- %s%s: %s.\n", capital(lab.Where(d.Scenario, d.Point)), kind, figures(r, d)))
	}
	if len(lines) == 0 {
		return ""
	}
	var b strings.Builder
	if len(lines[unclaimed]) == 0 || len(lines) > 1 {
		claimed(&b, lines)
	}
	list(&b, "Where nothing can be said", "", lines[unclaimed])
	return b.String()
}

func claimed(b *strings.Builder, lines map[outcome][]string) {
	const nowhere = "Nowhere, as far as this run can see.\n"
	list(b, "Where the event loop loses", nowhere, lines[loses])
	list(b, "Where no difference was seen", "", lines[even])
	list(b, "Where it wins", nowhere, lines[wins])
}

// list writes a heading with its lines, or none; nothing when there is neither.
func list(b *strings.Builder, title, none string, lines []string) {
	if len(lines) == 0 && none == "" {
		return
	}
	if len(lines) == 0 {
		lines = []string{none}
	}
	fmt.Fprintf(b, "## %s\n\n%s\n", title, strings.Join(lines, ""))
}

// noiseInWords says what the same program against itself gave.
func noiseInWords(r *lab.Results) string {
	var b strings.Builder
	for _, d := range r.Duels {
		if d.A == d.B && d.Invalid == "" {
			fmt.Fprintf(&b, "- %s, %s, at %s: requests per second %s, CPU per request %s, %d pairs%s.\n", d.A, lab.Where(d.Scenario, d.Point),
				d.At.Format("15:04"), d.RPS.Format("%.3f"), d.CPU.Format("%.3f"), len(d.Pairs), because(d.NoClaim))
		}
	}
	noise, measured := r.Noise(lab.RatioRPS)
	if !measured {
		b.WriteString("\nSo the noise is not known, and nothing is claimed.\n")
		return b.String()
	}
	cpu, _ := r.Noise(lab.RatioCPU)
	fmt.Fprintf(&b, "\nWhat isn't beyond %.1f %% in requests per second, or %.1f %% in CPU, is called no difference.\n", 100*noise, 100*cpu)
	return b.String()
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return "; not used, since " + why
}
