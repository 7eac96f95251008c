package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes. Scripts and service managers rely on them.
const (
	exitFailed = 1 // couldn't start, or didn't stop cleanly
	exitUsage  = 2 // the command line or an environment variable is wrong
)

// newRoot returns the whole command line.
func newRoot() *cobra.Command {
	var c config
	opts := options(&c)
	root := &cobra.Command{
		Use:   "counterd",
		Short: "Counts HTTP requests and answers each with its number",
		Long: `Counterd counts HTTP requests: any request is a hit and is answered with its
number; GET /count reads the count without counting. With --per=path each path
has a counter of its own; GET /count/PATH reads it.`,
		Example: `  counterd
  counterd --per=path
  counterd --store=mem: --engine=goroutine --listen=127.0.0.1:9000
  COUNTERD_STORE=postgres://db.example/counts counterd --counter=visitors`,
		Args:          noWords,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := resolve(cmd, opts, &c); err != nil {
				return err
			}
			if err := c.fits(); err != nil {
				return err
			}
			return serve(cmd.Context(), &c, unknownVariables(os.Environ(), opts))
		},
	}
	root.DisableSuggestions = true
	root.DisableFlagsInUseLine = true
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.SetHelpFunc(help)
	bind(root, opts)
	addSwitch(root, "version", "v", "print what this was built from")
	root.AddCommand(newHealth(), newStore(), newVersion())
	root.SetHelpCommand(newHelp(root))
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.Use, cmd.Short = "completion SHELL", "Print completions for bash, fish, powershell or zsh"
			cmd.DisableFlagsInUseLine = true
			cmd.RunE = func(*cobra.Command, []string) error {
				return usagef("completion: want bash, fish, powershell or zsh")
			}
			cmd.Args = cobra.ArbitraryArgs
			for _, shell := range cmd.Commands() {
				shell.Args = noWords
				shell.Hidden = true // one line in --help is enough
			}
		}
	}
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:                   "version",
		Short:                 "Print what this was built from",
		Args:                  noWords,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version())
			return err
		},
	}
}

// newHelp replaces cobra's, which answers a wrong word with exit code 0.
func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:    "help [COMMAND]",
		Short:  "Print help about a command",
		Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("help: there is no command %q", shown(args[len(args)-1]))
			}
			return cmd.Help()
		},
	}
}

// bind defines opts and --help as flags of cmd.
func bind(cmd *cobra.Command, opts []option) {
	cmd.Flags().SortFlags = false
	for _, o := range opts {
		f := cmd.Flags().VarPF(o.value, o.name, "", o.usage+" ["+o.env()+"]")
		f.Annotations = map[string][]string{"group": {o.group}}
		if o.value.kind == "" {
			f.NoOptDefVal = "true"
		}
		if len(o.value.choices) > 0 {
			// It fails only for a flag that doesn't exist.
			_ = cmd.RegisterFlagCompletionFunc(o.name, cobra.FixedCompletions(o.value.choices, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	addSwitch(cmd, "help", "h", "print this")
}

func addSwitch(cmd *cobra.Command, name, short, usage string) {
	cmd.Flags().VarPF(boolean(new(bool)), name, short, usage).NoOptDefVal = "true"
}

// resolve completes the configuration after the flags were read.
func resolve(cmd *cobra.Command, opts []option, c *config) error {
	if err := fromEnvironment(cmd.Flags(), opts); err != nil {
		return err
	}
	c.Store = cmp.Or(c.Store, defaultStore(c.Per))
	return conflicts(cmd.Flags(), opts, c)
}

// pick returns the options with the given names.
func pick(opts []option, names ...string) []option {
	return slices.DeleteFunc(opts, func(o option) bool { return !slices.Contains(names, o.name) })
}

func noWords(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usagef("unexpected word %q", shown(args[0]))
}

// shown is a word of the command line that may be repeated: a URL in the wrong
// place may hold a password.
func shown(word string) string {
	if scheme, _, ok := strings.Cut(word, "://"); ok {
		return scheme + "://…"
	}
	return word
}

// help prints what a person needs: flags by subject, with defaults and
// variables.
func help(cmd *cobra.Command, _ []string) {
	const columns = 92
	out := cmd.OutOrStdout()
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(out, "%s\n\nUsage:\n", text)
	if cmd.Runnable() && !cmd.HasParent() || !cmd.HasAvailableSubCommands() {
		fmt.Fprintf(out, "  %s [flags]\n", cmd.UseLine())
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			fmt.Fprint(out, usageLines(sub))
		}
	}
	if cmd.HasExample() {
		fmt.Fprintf(out, "\nExamples:\n%s\n", cmd.Example)
	}
	byGroup := map[string]*pflag.FlagSet{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		group := "Other"
		if g := f.Annotations["group"]; len(g) > 0 {
			group = g[0]
		}
		if byGroup[group] == nil {
			byGroup[group] = pflag.NewFlagSet(group, pflag.ContinueOnError)
			byGroup[group].SortFlags = false
		}
		byGroup[group].AddFlag(f)
	})
	for _, group := range append(groups, "Other") {
		if set := byGroup[group]; set != nil {
			fmt.Fprintf(out, "\n%s:\n%s", group, set.FlagUsagesWrapped(columns))
		}
	}
	if !cmd.HasParent() {
		fmt.Fprint(out, "\n"+notes)
	}
}

// notes are what holds for all flags.
const notes = `A flag beats its environment variable; a variable that is set but empty counts as
set. Passwords for PostgreSQL may also come from PGPASSWORD, PGPASSFILE or a service
file. Exit code: 0 stopped cleanly, 1 could not start or did not stop cleanly, 2 the
command line is wrong.
`

// usageLines is how a subcommand is called, with what it does.
func usageLines(cmd *cobra.Command) string {
	if !cmd.HasAvailableSubCommands() {
		return fmt.Sprintf("  %-32s %s\n", cmd.UseLine(), cmd.Short)
	}
	var lines strings.Builder
	for _, sub := range cmd.Commands() {
		lines.WriteString(usageLines(sub))
	}
	return lines.String()
}
