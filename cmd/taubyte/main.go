// Command taubyte is the reference server: a thin main over the packages of this
// module. Whatever it does, a program that imports them can do.
//
// Run it without arguments for the list of commands.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/taubyte/taubyte"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1 // what was asked for could not be done
	exitUsage       = 2 // the command line is wrong
	exitInvalid     = 3 // the input is: a configuration, a project, a folder
	exitNotFound    = 4
	exitConflict    = 5 // in use: a port, a folder; or refused because of what is there
	exitUnavailable = 6 // something needed is missing: a tool, a node
	exitDamaged     = 7 // a node's store can't be read; "taubyte store reset" helps
)

// An invocation is what a command is run with.
type invocation struct {
	ctx    context.Context
	out    io.Writer // results
	err    io.Writer // everything for a person's eyes
	flags  *flag.FlagSet
	args   []string // what is left of the command line after the flags
	asJSON bool
}

type command struct {
	name    string
	args    string // of the usage line
	summary string
	// prepare declares the command's flags and returns what runs it.
	prepare func(fs *flag.FlagSet) func(*invocation) error
	minArgs int
	maxArgs int
	noJSON  bool // the command has no output for scripts
}

func commands() []command {
	return []command{
		devCommand(), startCommand(), initCommand(), joinCommand(), memberCommand(), tokenCommand(), validateCommand(),
		projectsCommand(), repoCommand(), jobsCommand(), logsCommand(), rollbackCommand(),
		routesCommand(), nodesCommand(), explainCommand(), certsCommand(), domainsCommand(), storeCommand(), networkCommand(), secretsCommand(), envCommand(), versionCommand(), completionCommand(),
	}
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	if len(args) == 0 {
		usage(errOut)
		return exitUsage
	}
	name, args := args[0], args[1:]
	if name == "help" || name == "-h" || name == "--help" {
		if len(args) == 0 {
			usage(out)
			return exitOK
		}
		name, args = args[0], []string{"--help"}
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(ctx, args, out, errOut)
		}
	}
	fmt.Fprintf(errOut, "taubyte: no command %q\n\n", name)
	usage(errOut)
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, "Taubyte: a cloud in one command.\n\nUsage: taubyte COMMAND [ARGUMENTS]\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-12s%s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\n\"taubyte help COMMAND\" tells more of each.\n")
}

func (c command) run(ctx context.Context, args []string, out, errOut io.Writer) int {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	inv := &invocation{ctx: ctx, out: out, err: errOut, flags: fs}
	if !c.noJSON {
		fs.BoolVar(&inv.asJSON, "json", false, "print JSON, for scripts")
	}
	do := c.prepare(fs)
	rest, err := parse(fs, args)
	if errors.Is(err, flag.ErrHelp) {
		c.help(out, fs)
		return exitOK
	}
	if err == nil && (len(rest) < c.minArgs || len(rest) > c.maxArgs) {
		err = fmt.Errorf("%d arguments given", len(rest))
	}
	if err != nil {
		fmt.Fprintf(errOut, "taubyte %s: %v\n", c.name, err)
		c.help(errOut, fs)
		return exitUsage
	}
	inv.args = rest
	if err := do(inv); err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return exitOK // asked to stop
		}
		fmt.Fprintf(errOut, "taubyte %s: %v\n", c.name, err)
		return exitCode(err)
	}
	return exitOK
}

func (c command) help(w io.Writer, fs *flag.FlagSet) {
	line := "taubyte " + c.name
	if c.args != "" {
		line += " " + c.args
	}
	fmt.Fprintf(w, "Usage: %s\n\n%s\n", line, capital(c.summary))
	fs.SetOutput(w)
	fmt.Fprint(w, "\nFlags:\n")
	fs.PrintDefaults()
	fs.SetOutput(io.Discard)
}

func capital(s string) string {
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// parse lets flags stand after arguments as well as before them; "--" ends them.
func parse(fs *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		left := fs.Args()
		if len(left) == 0 {
			return rest, nil
		}
		if n := len(args) - len(left); n > 0 && args[n-1] == "--" {
			return append(rest, left...), nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}

func exitCode(err error) int {
	switch {
	case errors.Is(err, taubyte.ErrDamaged):
		return exitDamaged
	case errors.Is(err, taubyte.ErrInvalid):
		return exitInvalid
	case errors.Is(err, taubyte.ErrNotFound):
		return exitNotFound
	case errors.Is(err, taubyte.ErrConflict), errors.Is(err, syscall.EADDRINUSE):
		return exitConflict
	case errors.Is(err, taubyte.ErrUnavailable):
		return exitUnavailable
	}
	return exitFailed
}
