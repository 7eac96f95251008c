package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"github.com/counterd/counterd/counter"
)

// counters are those of a store that no server has open. One goroutine uses them.
type counters interface {
	// Each calls f for every counter in order of names, by bytes, until f fails.
	Each(ctx context.Context, f func(counter.Named) error) error

	// Count returns the count of name, and whether there is such a counter.
	Count(ctx context.Context, name string) (n int64, exists bool, err error)

	// Load sets the count of each of set, whose names differ, and makes those that
	// don't exist: all of them, durably, or none. It fails if the sum of all counters
	// would pass 2^63-1.
	Load(ctx context.Context, set []counter.Named) error

	// Drop forgets the counters of these names, durably: all of them, or none if
	// there is an error. A name that doesn't exist is one.
	Drop(ctx context.Context, names []string) error

	Close() error
}

// newStore is the command for stores that no server has open.
func newStore() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Read or change the counters of a store that no server has open",
		RunE: func(*cobra.Command, []string) error {
			return usagef("store: want show, set, list, load or drop")
		},
	}
	cmd.AddCommand(
		newStoreCommand("show STORE [NAME]", "Print a count: the only one, that of NAME, or the sum", 1, 2, showCount),
		newStoreCommand("set STORE [NAME] VALUE", "Set a count; makes a missing or damaged file anew", 2, 3, setCount),
		newStoreCommand("list STORE", "Print all counters, a line each: count, tab, name", 1, 1, listCounters),
		newStoreCommand("load STORE", "Set counters from such lines on standard input, all or none", 1, 1, loadCounters),
		newStoreCommand("drop STORE NAME...", "Forget counters: a later hit begins at 1", 2, math.MaxInt, dropCounters),
	)
	return cmd
}

// newStoreCommand is a subcommand with least to most words, of which the first is a
// store; run gets the others.
func newStoreCommand(use, short string, least, most int, run func(*cobra.Command, *config, []string) error) *cobra.Command {
	var c config
	opts := pick(options(&c), "counter", "store-timeout")
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args: func(_ *cobra.Command, args []string) error {
			if least <= len(args) && len(args) <= most {
				return nil
			}
			return usagef("want: counterd store %s", use)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := parseStore(args[0])
			if err != nil {
				return usagef("store: %v", err)
			}
			if !k.lasts() {
				return usagef("store: %s lives in one server's memory only", k.form)
			}
			c.Store = args[0]
			if err := resolve(cmd, opts, &c); err != nil {
				return err
			}
			return run(cmd, &c, args[1:])
		},
	}
	cmd.DisableFlagsInUseLine = true
	bind(cmd, opts)
	return cmd
}

func showCount(cmd *cobra.Command, c *config, args []string) error {
	n, err := count(cmd.Context(), c, args)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), n)
	return err
}

// count is that of the name in args, or of all.
func count(ctx context.Context, c *config, args []string) (n int64, err error) {
	if len(args) == 0 && c.kind().show != nil {
		return c.kind().show(ctx, c)
	}
	err = withCounters(ctx, c, false, func(all counters) error {
		if len(args) == 0 {
			return all.Each(ctx, func(one counter.Named) error { n += one.Count; return nil })
		}
		var exists bool
		n, exists, err = all.Count(ctx, args[0])
		if err == nil && !exists {
			return fmt.Errorf("store: there is no counter %q", args[0])
		}
		return err
	})
	return n, err
}

func setCount(cmd *cobra.Command, c *config, args []string) error {
	v, err := parseCount(args[len(args)-1])
	if err != nil {
		return usagef("store set: %v", err)
	}
	if len(args) == 1 {
		if c.kind().set == nil {
			return usagef("store set: which counter? want: counterd store set %s NAME VALUE", c.kind().form)
		}
		return c.kind().set(cmd.Context(), c, v)
	}
	if err := checkName(args[0]); err != nil {
		return usagef("store set: %v", err)
	}
	return withCounters(cmd.Context(), c, true, func(all counters) error {
		return all.Load(cmd.Context(), []counter.Named{{Name: args[0], Count: v}})
	})
}

func listCounters(cmd *cobra.Command, c *config, _ []string) error {
	return withCounters(cmd.Context(), c, false, func(all counters) error {
		out := bufio.NewWriter(cmd.OutOrStdout())
		err := all.Each(cmd.Context(), func(n counter.Named) error { return writeCounter(out, n) })
		return errors.Join(err, out.Flush())
	})
}

func loadCounters(cmd *cobra.Command, c *config, _ []string) error {
	// Nothing is opened, or made, for lines that can't be read.
	if c.kind().counters == nil {
		return errOneCounter(c)
	}
	set, err := readCounters(cmd.InOrStdin())
	if err != nil {
		return fmt.Errorf("store load: %w", err)
	}
	return withCounters(cmd.Context(), c, true, func(all counters) error { return all.Load(cmd.Context(), set) })
}

func dropCounters(cmd *cobra.Command, c *config, args []string) error {
	return withCounters(cmd.Context(), c, false, func(all counters) error { return all.Drop(cmd.Context(), args) })
}

func errOneCounter(c *config) error {
	return usagef("store: %s holds a single counter, without a name", c.kind().form)
}

// withCounters runs f on the store with many counters that c names, and closes it.
func withCounters(ctx context.Context, c *config, create bool, f func(counters) error) error {
	if c.kind().counters == nil {
		return errOneCounter(c)
	}
	all, err := c.kind().counters(ctx, c, create)
	if err != nil {
		return err
	}
	return errors.Join(f(all), all.Close())
}
