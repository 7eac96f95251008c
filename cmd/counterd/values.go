package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// value is a flag's value: how its text is read and where it goes.
type value struct {
	kind    string // what --help calls it; empty for a switch
	text    string
	choices []string
	parse   func(text string) error // stores what it read
}

var _ pflag.Value = (*value)(nil)

func (v *value) String() string { return v.text }

func (v *value) Type() string {
	if v.kind == "" {
		return "bool"
	}
	return v.kind
}

func (v *value) Set(text string) error {
	if err := v.parse(text); err != nil {
		return err
	}
	v.text = text
	return nil
}

// withDefault makes def the value, shown in --help.
func (v *value) withDefault(def string) *value {
	if err := v.Set(def); err != nil {
		panic(fmt.Sprintf("default %q: %v", def, err)) // ours, not the user's
	}
	return v
}

// parsed takes what parse can read, for p.
func parsed[T any](p *T, kind string, parse func(text string) (T, error)) *value {
	return &value{kind: kind, parse: func(text string) error {
		x, err := parse(text)
		if err == nil {
			*p = x
		}
		return err
	}}
}

// checked takes a text that check finds nothing wrong with.
func checked(p *string, kind string, check func(text string) error) *value {
	return parsed(p, kind, func(text string) (string, error) { return text, check(text) })
}

// choice takes one of several words.
func choice(p *string, def string, choices ...string) *value {
	v := checked(p, "NAME", func(text string) error {
		if !slices.Contains(choices, text) {
			return fmt.Errorf("%q is none of %s", text, strings.Join(choices, ", "))
		}
		return nil
	})
	v.choices = choices
	return v.withDefault(def)
}

func boolean(p *bool) *value {
	return parsed(p, "", func(text string) (bool, error) {
		b, err := strconv.ParseBool(text)
		if err != nil {
			err = fmt.Errorf("%q is neither true nor false", text)
		}
		return b, err
	}).withDefault("false")
}

func duration(p *time.Duration, def string, least time.Duration) *value {
	return parsed(p, "DURATION", func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		switch {
		case err != nil:
			err = fmt.Errorf("%q is no duration such as 500ms, 10s or 1m", text)
		case d < least:
			err = fmt.Errorf("%q is less than %v", text, least)
		}
		return d, err
	}).withDefault(def)
}

func syncing(p *time.Duration) *value {
	v := &value{kind: "always|DURATION", choices: []string{"always"}}
	interval := duration(p, "1ms", time.Millisecond)
	v.parse = func(text string) error {
		if text == "always" {
			*p = 0
			return nil
		}
		if err := interval.parse(text); err != nil {
			return fmt.Errorf("%w, nor always", err)
		}
		return nil
	}
	return v.withDefault("always")
}

// integer takes a number from least to most; kind is what --help calls it.
func integer[T int | int64](p *T, def, kind string, least, most int64) *value {
	return parsed(p, kind, func(text string) (T, error) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < least || n > most {
			err = fmt.Errorf("%q is no number from %d to %d", text, least, most)
		}
		return T(n), err
	}).withDefault(def)
}

// small takes a positive number whose default is not known before the start; p
// stays 0 then. def says what it will be.
func small(p *int, most int64, def string) *value {
	v := integer(p, "1", "N", 1, most)
	*p, v.text = 0, def
	return v
}

// maxLoops is far beyond what any machine has use for: each loop has a thread, a
// poller and a buffer.
const maxLoops = 256

func checkAddress(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Errorf("%q is no HOST:PORT", text)
	}
	// An empty port would mean any, silently.
	if _, err := net.LookupPort("tcp", port); err != nil || port == "" {
		return fmt.Errorf("%q has no port from 0 to 65535", text)
	}
	return nil
}

// orEmpty is check, but takes an empty text too.
func orEmpty(check func(string) error) func(string) error {
	return func(text string) error {
		if text == "" {
			return nil
		}
		return check(text)
	}
}

// storeText never repeats what it was given: it may hold a password. p stays
// empty by default, which depends on --per; def is shown.
func storeText(p *string, def string) *value {
	v := checked(p, "STORE", func(text string) error {
		_, err := parseStore(text)
		return err
	})
	v.text = def
	return v
}

// checkOrigin takes one origin as a browser writes it in its Origin field, which it
// compares octet by octet; or *.
func checkOrigin(text string) error {
	if err := isOrigin(text); err != nil && text != "*" {
		return fmt.Errorf("%q is no origin such as https://example.com, nor *: %w", text, err)
	}
	return nil
}

func isOrigin(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("it can't be read")
	case u.Scheme == "" || u.Host == "":
		return errors.New("it needs a scheme and a host")
	case text != u.Scheme+"://"+u.Host:
		return errors.New("it ends with the host or port, and a scheme is in lower case")
	case strings.ContainsFunc(u.Host, func(r rune) bool {
		return r <= ' ' || r > '~' || 'A' <= r && r <= 'Z' || strings.ContainsRune(`,*"'`, r)
	}):
		return errors.New("a host is in lower case and ASCII, as browsers send it")
	case u.Scheme == "http" && u.Port() == "80" || u.Scheme == "https" && u.Port() == "443" || strings.HasSuffix(u.Host, ":"):
		return errors.New("browsers leave out the scheme's own port")
	}
	return nil
}
