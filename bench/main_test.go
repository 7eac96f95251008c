package main

import (
	"context"
	"errors"
	"testing"

	"github.com/counterd/counterd/bench/lab"
)

func TestFlagsBecomeAPlan(t *testing.T) {
	for _, c := range []struct {
		args  []string
		mode  string
		steps int
		check func(lab.Step) bool
	}{
		{nil, lab.ModeDefault, 3, func(s lab.Step) bool { return s.Scenario == "noise" || s.Pairs > 0 || s.Seconds == 30 }},
		{[]string{"--quick", "--duration", "5s", "--rounds", "2", "--pairs", "3"}, lab.ModeQuick, 3,
			func(s lab.Step) bool { return s.Seconds == 5 && s.Rounds+s.Pairs >= 2 && s.Rounds+s.Pairs <= 3 }},
		{[]string{"--scenario", "churn", "--only", "gnet-*"}, lab.ModeChosen, 2,
			func(s lab.Step) bool { return s.Duels[0][0] == "gnet-mem" }},
		{[]string{"--check"}, lab.ModeCheck, 10, func(lab.Step) bool { return true }},
	} {
		o, err := parse(c.args)
		if err != nil {
			t.Errorf("%v: %v", c.args, err)
			continue
		}
		plan, err := makePlan(&o)
		if err != nil || o.mode != c.mode || len(plan) != c.steps {
			t.Errorf("%v: mode %s, %d steps, %v", c.args, o.mode, len(plan), err)
			continue
		}
		for _, s := range plan {
			if !c.check(s) {
				t.Errorf("%v: step %+v", c.args, s)
			}
		}
	}
}

func TestMistakesEndWithTwo(t *testing.T) {
	for _, args := range [][]string{{"--bogus"}, {"word"}, {"--duration", "1500ms"}, {"--rounds", "-1"}, {"--pairs", "-1"}, {"--only", "nobody"}, {"--scenario", "none"}} {
		o, err := parse(args)
		if err == nil {
			_, err = makePlan(&o)
		}
		var code exitCode
		if !errors.As(err, &code) || code != 2 {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestModesAreBounded(t *testing.T) {
	for _, c := range []struct {
		args    []string
		bounded bool
	}{
		{[]string{"--quick"}, true},
		{[]string{"--full"}, true},
		{[]string{"--check"}, true},
		{[]string{"--quick", "--rounds", "20"}, false},
		{[]string{"--full", "--pairs", "99"}, false},
		{nil, false},
	} {
		o, err := parse(c.args)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := bounded(t.Context(), o)
		if _, ok := ctx.Deadline(); ok != c.bounded {
			t.Errorf("%v: bounded %v", c.args, ok)
		}
		cancel()
	}
}

// The run's outcome is its exit code: scripts depend on it.
func TestVerdict(t *testing.T) {
	invalid := &lab.Results{Samples: []lab.Sample{{Invalid: "miscounted"}}}
	broken := &lab.Results{Mode: lab.ModeCheck, Checks: []lab.Check{{Pass: true}, {}}}
	kept := &lab.Results{Mode: lab.ModeCheck, Checks: []lab.Check{{Pass: true}}}
	if verdict(invalid, nil) == nil {
		t.Error("an invalid figure passed")
	}
	if verdict(broken, nil) == nil {
		t.Error("a broken promise passed")
	}
	if err := verdict(kept, nil); err != nil {
		t.Error(err)
	}
	if err := verdict(kept, context.DeadlineExceeded); err == nil {
		t.Error("a run that was cut short passed")
	}
	var code exitCode
	if err := verdict(kept, errors.New("stopped")); !errors.As(err, &code) || code != 130 {
		t.Errorf("stopped: %v", err)
	}
}
