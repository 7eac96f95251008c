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
	all, err := c.counters()
	if err != nil {
		return 0, err
	}
	if len(args) == 0 {
		err = all.Each(ctx, func(one counter.Named) error { n += one.Count; return nil })
		return n, err
	}
	n, exists, err := all.Count(ctx, args[0])
	if err == nil && !exists {
		err = fmt.Errorf("store: there is no counter %q", args[0])
	}
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
	all, err := c.counters()
	if err != nil {
		return err
	}
	return all.Load(cmd.Context(), []counter.Named{{Name: args[0], Count: v}})
}

func listCounters(cmd *cobra.Command, c *config, _ []string) error {
	all, err := c.counters()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	err = all.Each(cmd.Context(), func(n counter.Named) error { return writeCounter(out, n) })
	return errors.Join(err, out.Flush())
}

func loadCounters(cmd *cobra.Command, c *config, _ []string) error {
	all, err := c.counters()
	if err != nil {
		return err
	}
	set, err := readCounters(cmd.InOrStdin())
	if err != nil {
		return fmt.Errorf("store load: %w", err)
	}
	return all.Load(cmd.Context(), set)
}

func dropCounters(cmd *cobra.Command, c *config, args []string) error {
	all, err := c.counters()
	if err != nil {
		return err
	}
	return all.Drop(cmd.Context(), args)
}

// counters are those of the store that c names, which must be one with many.
func (c *config) counters() (counters, error) {
	k := c.kind()
	if k.counters == nil {
		return nil, usagef("store: %s holds a single counter, without a name", k.form)
	}
	return k.counters(c), nil
}
