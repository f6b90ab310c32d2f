// Command taubyte is the reference server: a thin main over the packages of this
// module. Whatever it does, a program that imports them can do.
//
// Run it without arguments for the list of commands.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
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
	exitForbidden   = 8 // the token may not, or is none
)

// An invocation is what a command is run with.
type invocation struct {
	ctx    context.Context
	out    io.Writer // results
	err    io.Writer // everything for a person's eyes
	flags  *flag.FlagSet
	verb   string   // of a command that has several
	args   []string // what is left of the command line after the flags and the verb
	asJSON bool
}

type command struct {
	name    string
	args    string // of the usage line
	summary string
	// prepare declares the command's flags and returns what runs it.
	prepare func(fs *flag.FlagSet) func(*invocation) error
	// verbs are what the command does, each with what it takes ("add HOST"); then the
	// number of arguments is the verb's. Without any verb it is "list".
	verbs   []string
	minArgs int
	maxArgs int
	noJSON  bool // the command has no output for scripts
}

func commands() []command {
	return []command{
		devCommand(), startCommand(), initCommand(), joinCommand(), memberCommand(), tokenCommand(), validateCommand(), sdkCommand(),
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
	if err != nil {
		fmt.Fprintf(errOut, "taubyte %s: %v\n", c.name, err)
		c.help(errOut, fs)
		return exitUsage
	}
	if inv.verb, inv.args, err = c.choose(rest); err != nil {
		fmt.Fprintf(errOut, "taubyte %s: %v\n%s\n\"taubyte help %s\" tells more.\n", c.name, err, c.usage(), c.name)
		return exitUsage
	}
	if err := do(inv); err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return exitOK // asked to stop
		}
		fmt.Fprintf(errOut, "taubyte %s: %v\n", c.name, err)
		return exitCode(err)
	}
	return exitOK
}

// choose splits what is left after the flags into a verb and what that takes.
func (c command) choose(rest []string) (verb string, args []string, err error) {
	if len(c.verbs) == 0 {
		switch {
		case len(rest) < c.minArgs:
			return "", nil, errors.New("an argument is missing")
		case len(rest) > c.maxArgs && c.maxArgs == 0:
			return "", nil, fmt.Errorf("it takes no argument, and %q is one", rest[0])
		case len(rest) > c.maxArgs:
			return "", nil, errors.New("there are too many arguments")
		}
		return "", rest, nil
	}
	if len(rest) == 0 && slices.Contains(c.verbs, "list") {
		rest = []string{"list"}
	}
	var names []string
	for _, v := range c.verbs {
		name, takes, _ := strings.Cut(v, " ")
		names = append(names, name)
		if len(rest) == 0 || name != rest[0] {
			continue
		}
		if got := rest[1:]; len(got) == len(strings.Fields(takes)) {
			return name, got, nil
		}
		return "", nil, fmt.Errorf("%s takes %s", name, cmp.Or(takes, "no argument"))
	}
	if len(rest) == 0 {
		return "", nil, fmt.Errorf("say which: %s", strings.Join(names, ", "))
	}
	return "", nil, fmt.Errorf("there is no %q, only %s", rest[0], strings.Join(names, ", "))
}

func (c command) usage() string {
	return strings.TrimSpace("Usage: taubyte " + c.name + " " + c.args)
}

func (c command) help(w io.Writer, fs *flag.FlagSet) {
	fmt.Fprintf(w, "%s\n\n%s\n", c.usage(), capital(c.summary))
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
	case errors.Is(err, taubyte.ErrInvalid), errors.Is(err, taubyte.ErrTooLarge):
		return exitInvalid
	case errors.Is(err, taubyte.ErrNotFound):
		return exitNotFound
	case errors.Is(err, taubyte.ErrConflict), errors.Is(err, syscall.EADDRINUSE):
		return exitConflict
	case errors.Is(err, taubyte.ErrForbidden):
		return exitForbidden
	case errors.Is(err, taubyte.ErrUnavailable):
		return exitUnavailable
	}
	return exitFailed
}
