package lab

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/counterd/counterd/bench/contender"
)

// Score puts an HTTP server through a table of rules: it keeps so many of all.
type Score func(ctx context.Context, addr string) (kept, all int, failed []string, err error)

// scoreWithin bounds one server's score.
const scoreWithin = 30 * time.Second

// score fills in the scores of the contenders. Those with the same HTTP stack
// share one.
func (l *Lab) score(ctx context.Context) error {
	if l.Score == nil {
		return nil
	}
	known := map[string]About{} // by stack
	for i := range l.Results.Contenders {
		about := &l.Results.Contenders[i]
		c, ok := contender.Named(about.Name)
		if !ok || c.Protocol != contender.HTTP || l.missing(c) != nil {
			continue
		}
		first, done := known[c.Stack]
		if !done {
			l.Progress.Next(0, 0, 0, "conformance  "+c.Stack)
			first = l.scoreOf(ctx, c)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			known[c.Stack] = first
			l.Progress.Done(first.scoreInWords())
		}
		about.Kept, about.Rules, about.Unscored = first.Kept, first.Rules, first.Unscored
	}
	return nil
}

// scoreOf starts the lightest contender with the same stack.
func (l *Lab) scoreOf(ctx context.Context, c contender.Contender) About {
	all := contender.All()
	i := slices.IndexFunc(all, func(o contender.Contender) bool {
		return o.Stack == c.Stack && o.Kind == contender.Memory && l.missing(o) == nil
	})
	if i >= 0 {
		c = all[i]
	}
	ctx, cancel := context.WithTimeout(ctx, scoreWithin)
	defer cancel()
	env := l.Env
	dir, remove, err := dataDir(env.Data)
	if err != nil {
		return About{Unscored: err.Error()}
	}
	defer remove()
	env.Data = dir
	in, err := c.Start(ctx, env)
	if err != nil {
		return About{Unscored: err.Error()}
	}
	defer in.Stop()
	kept, rules, _, err := l.Score(ctx, in.Addr)
	if err != nil {
		return About{Unscored: err.Error()}
	}
	return About{Kept: kept, Rules: rules}
}

func (a About) scoreInWords() string {
	if a.Unscored != "" {
		return "no score: " + a.Unscored
	}
	return fmt.Sprintf("keeps %d of %d rules", a.Kept, a.Rules)
}
