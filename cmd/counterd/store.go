package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/counterd/counterd/admin"
	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/filestore"
	"github.com/counterd/counterd/counter/pgstore"
)

// openCounter opens the store that c names. stats is nil if it has none. While
// another process has the file open, it waits until patience ends.
func openCounter(ctx, patience context.Context, c *config, commits *admin.Commits, log *slog.Logger) (_ *counter.Counter, stats func() admin.StoreStats, err error) {
	o := counter.Options{Timeout: c.StoreTimeout, Observe: commits.Observe}
	switch {
	case isFile(c.Store) && c.Sync == 0:
		var store *filestore.Store
		err = takeOver(patience, log, "the store", filestore.ErrLocked, func() (err error) {
			store, err = filestore.Open(filePath(c.Store))
			return err
		})
		if err != nil {
			return nil, nil, err
		}
		return counter.New(store, o), nil, nil
	case isFile(c.Store):
		var store *filestore.Periodic
		err = takeOver(patience, log, "the store", filestore.ErrLocked, func() (err error) {
			store, err = filestore.OpenPeriodic(filePath(c.Store), filestore.Options{Sync: c.Sync, Observe: commits.Observe})
			return err
		})
		if err != nil {
			return nil, nil, err
		}
		return counter.NewInstant(store, o), nil, nil
	case isPostgres(c.Store):
		pg, err := pgstore.Open(ctx, c.Store, pgOptions(c, log))
		if err != nil {
			return nil, nil, fmt.Errorf("store: %w", err)
		}
		return counter.New(pg, o), func() admin.StoreStats {
			st := pg.Stats()
			return admin.StoreStats{Retries: st.Retries, Ambiguous: st.Ambiguous}
		}, nil
	default:
		return counter.NewInstant(counter.NewMem(), o), nil, nil
	}
}

func filePath(store string) string { return strings.TrimPrefix(store, "file:") }

// newStore is the command for stores that no server has open.
func newStore() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Read or set the count of a store that no server has open",
		RunE: func(*cobra.Command, []string) error {
			return usagef("store: want show or set")
		},
	}
	cmd.AddCommand(
		newStoreCommand("show STORE", "Print the count of a store that no server has open", 1,
			func(cmd *cobra.Command, c *config, args []string) error {
				v, err := showStore(cmd.Context(), c)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), v)
				return err
			}),
		newStoreCommand("set STORE VALUE", "Set it; makes a missing or damaged file anew", 2,
			func(cmd *cobra.Command, c *config, args []string) error {
				v, err := strconv.ParseInt(args[1], 10, 64)
				if err != nil || v < 0 {
					return usagef("store set: %q is no number from 0 to %d", args[1], int64(math.MaxInt64))
				}
				return setStore(cmd.Context(), c, v)
			}),
	)
	return cmd
}

// newStoreCommand is a subcommand whose first of n words is a store.
func newStoreCommand(use, short string, n int, run func(*cobra.Command, *config, []string) error) *cobra.Command {
	var c config
	opts := pick(options(&c), "counter", "store-timeout")
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == n {
				return nil
			}
			return usagef("want: counterd store %s", use)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkStore(args[0]); err != nil {
				return usagef("store: %v", err)
			}
			if args[0] == "mem:" {
				return usagef("store: mem: lives in one server's memory only")
			}
			c.Store = args[0]
			if err := resolve(cmd, opts, &c); err != nil {
				return err
			}
			return run(cmd, &c, args)
		},
	}
	cmd.DisableFlagsInUseLine = true
	bind(cmd, opts)
	return cmd
}

func showStore(ctx context.Context, c *config) (int64, error) {
	if isFile(c.Store) {
		return filestore.Show(filePath(c.Store))
	}
	return pgstore.Show(ctx, c.Store, pgOptions(c, slog.Default()))
}

func setStore(ctx context.Context, c *config, v int64) error {
	if isFile(c.Store) {
		return filestore.Set(filePath(c.Store), v)
	}
	return pgstore.Set(ctx, c.Store, pgOptions(c, slog.Default()), v)
}

func pgOptions(c *config, log *slog.Logger) pgstore.Options {
	return pgstore.Options{Counter: c.Counter, Timeout: c.StoreTimeout, Log: log}
}
