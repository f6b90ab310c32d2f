package main

import (
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/taubyte/taubyte"
)

func completionCommand() command {
	return command{
		name: "completion", args: "bash|zsh|fish", summary: "print a script that completes commands, verbs and flags in a shell",
		minArgs: 1, maxArgs: 1, noJSON: true,
		prepare: func(*flag.FlagSet) func(*invocation) error {
			return func(inv *invocation) error {
				var script string
				switch inv.args[0] {
				case "bash":
					script = bashCompletion()
				case "zsh":
					script = "autoload -U +X bashcompinit && bashcompinit\n" + bashCompletion()
				case "fish":
					script = fishCompletion()
				default:
					return fmt.Errorf("%w: no completion for the shell %q", taubyte.ErrInvalid, inv.args[0])
				}
				_, err := io.WriteString(inv.out, script)
				return err
			}
		},
	}
}

// flagNames lists the flags of a command, as they are typed.
func flagNames(c command) []string {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	if !c.noJSON {
		fs.Bool("json", false, "")
	}
	c.prepare(fs)
	var names []string
	fs.VisitAll(func(f *flag.Flag) { names = append(names, "--"+f.Name) })
	return names
}

// words are what a command line may go on with after the command's name.
func (c command) words() []string {
	var all []string
	for _, v := range c.verbs {
		name, _, _ := strings.Cut(v, " ")
		all = append(all, name)
	}
	return append(all, flagNames(c)...)
}

func commandNames() []string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	return names
}

func bashCompletion() string {
	var b strings.Builder
	b.WriteString("_taubyte() {\n  local words=\n  if [ \"$COMP_CWORD\" -eq 1 ]; then\n")
	fmt.Fprintf(&b, "    words='%s'\n  else\n    case ${COMP_WORDS[1]} in\n", strings.Join(commandNames(), " "))
	for _, c := range commands() {
		fmt.Fprintf(&b, "      %s) words='%s' ;;\n", c.name, strings.Join(c.words(), " "))
	}
	b.WriteString("    esac\n  fi\n  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\ncomplete -o default -F _taubyte taubyte\n")
	return b.String()
}

func fishCompletion() string {
	var b strings.Builder
	for _, c := range commands() {
		fmt.Fprintf(&b, "complete -c taubyte -n __fish_use_subcommand -a %s -d '%s'\n", c.name, strings.ReplaceAll(c.summary, "'", "’"))
		for _, w := range c.words() {
			option := "-a"
			if strings.HasPrefix(w, "--") {
				option = "-l"
			}
			fmt.Fprintf(&b, "complete -c taubyte -n '__fish_seen_subcommand_from %s' %s %s\n", c.name, option, strings.TrimPrefix(w, "--"))
		}
	}
	return b.String()
}
