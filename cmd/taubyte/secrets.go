package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/environment"
)

func secretsCommand() command {
	return variablesCommand(environment.Secret, "secrets", "set NAME | list | rm NAME | log | keys | rotate",
		"set, list or remove secrets of a project's functions; its audit log; the keys that seal all secrets. A value is read from standard input or a file")
}

func envCommand() command {
	return variablesCommand(environment.Plain, "env", "set NAME | list | rm NAME",
		"set, list or remove environment variables of a project's functions. A value is read from standard input or a file")
}

// variablePlace is which variables a command is about.
type variablePlace struct {
	project, branch, function, file string
	limit                           int
}

func variablesCommand(kind environment.Kind, name, args, summary string) command {
	return command{
		name: name, args: args, summary: summary, verbs: strings.Split(args, " | "),
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			var at variablePlace
			fs.StringVar(&at.project, "project", "", "the project, by its id or name (default: the only one)")
			fs.StringVar(&at.branch, "branch", "", "this branch alone; with list: what counts on it")
			fs.StringVar(&at.function, "function", "", "this function alone: its name, or <application>/<name>; with list: what counts for it")
			fs.StringVar(&at.file, "file", "", "with set: the file that holds the value, as it is (default: standard input, without the newline at its end)")
			if kind == environment.Secret {
				fs.IntVar(&at.limit, "limit", 100, "with log: how many accesses")
			}
			return asking(fs, func(inv *invocation, c *api) error {
				if err := checkFlags(fs, inv.verb); err != nil {
					return err
				}
				switch inv.verb {
				case "log", "keys", "rotate":
					return secretsAdmin(inv, c, at)
				}
				project, err := c.project(at.project)
				if err != nil {
					return err
				}
				v := environment.Variable{Kind: kind, Project: project, Branch: taubyte.Branch(at.branch), Function: at.function}
				if len(inv.args) > 0 {
					v.Name = inv.args[0]
				}
				path := "/v1/auth/projects/" + url.PathEscape(string(project)) + "/variables"
				switch inv.verb {
				case "list":
					return listVariables(inv, c, path, kind, at)
				case "rm":
					q := url.Values{"kind": {string(kind)}, "name": {v.Name}, "branch": {at.branch}, "function": {at.function}}
					if err := c.call(http.MethodDelete, path+"?"+q.Encode(), nil, nil); err != nil {
						return err
					}
					return told(inv, map[string]any{"removed": v.Name}, v.Name+" is removed for "+forWhom(v))
				}
				if err := v.Check(); err != nil { // before a person types the value
					return err
				}
				if v.Value, err = readValue(inv, at.file, kind); err != nil {
					return err
				}
				if err := v.Check(); err != nil {
					return err
				}
				if err := c.call(http.MethodPut, path, v, &v); err != nil {
					return err
				}
				return told(inv, map[string]any{"set": v.Name, "version": v.Version}, fmt.Sprintf("%s is set for %s (version %d), and seen within seconds", v.Name, forWhom(v), v.Version))
			})
		},
	}
}

// checkFlags refuses a flag that would be without effect.
func checkFlags(fs *flag.FlagSet, verb string) (err error) {
	place := []string{"set", "list", "rm"}
	takes := map[string][]string{"project": append(place, "log"), "branch": place, "function": place, "file": {"set"}, "limit": {"log"}}
	fs.Visit(func(f *flag.Flag) {
		if verbs, ok := takes[f.Name]; ok && !slices.Contains(verbs, verb) {
			err = fmt.Errorf("%w: --%s is for %s, not for %s", taubyte.ErrInvalid, f.Name, strings.Join(verbs, ", "), verb)
		}
	})
	return err
}

// forWhom says whom a variable is for.
func forWhom(v environment.Variable) string {
	text := "all functions"
	if v.Function != "" {
		text = "the function " + v.Function
	}
	if v.Branch != "" {
		text += " of the branch " + string(v.Branch)
	}
	return text
}

// project finds a project by its id or name, or the only one.
func (c *api) project(named string) (taubyte.ProjectID, error) {
	var all []auth.Project
	if err := c.call(http.MethodGet, "/v1/auth/projects", nil, &all); err != nil {
		return "", err
	}
	var found []auth.Project
	for _, p := range all {
		if string(p.ID) == named {
			return p.ID, nil
		}
		if named == "" || p.Name == named {
			found = append(found, p)
		}
	}
	switch {
	case len(found) == 1:
		return found[0].ID, nil
	case named == "" && len(found) == 0:
		return "", fmt.Errorf("%w: this network has no project yet", taubyte.ErrNotFound)
	case len(found) == 0:
		return "", fmt.Errorf("%w: project %q", taubyte.ErrNotFound, named)
	}
	var ids []string
	for _, p := range found {
		ids = append(ids, fmt.Sprintf("%s (%s)", p.ID, p.Name))
	}
	return "", fmt.Errorf("%w: choose one with --project: %s", taubyte.ErrConflict, strings.Join(ids, ", "))
}

// likelyProject is project for nodes that do not run auth, and for projects that auth has
// forgotten: there what is named is taken as an id.
func (c *api) likelyProject(named string) (taubyte.ProjectID, error) {
	if named == "" {
		return "", nil
	}
	id, err := c.project(named)
	if errors.Is(err, taubyte.ErrNotFound) || errors.Is(err, taubyte.ErrUnavailable) {
		return taubyte.ProjectID(named), nil
	}
	return id, err
}

// readValue reads a value that is in no process's arguments.
func readValue(inv *invocation, file string, kind environment.Kind) ([]byte, error) {
	in := io.Reader(os.Stdin)
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("%w value: %w", taubyte.ErrInvalid, err)
		}
		defer f.Close()
		in = f
	} else if stty("-g") { // a person types it
		fmt.Fprint(inv.err, "The value, ended by Enter and Ctrl-D: ")
		if kind == environment.Secret && stty("-echo") {
			defer fmt.Fprintln(inv.err)
			defer stty("echo")
		}
	}
	value, err := io.ReadAll(io.LimitReader(in, environment.MaxValue+2))
	if err != nil {
		return nil, err
	}
	if file == "" {
		text := string(value)
		if cut, ok := strings.CutSuffix(text, "\n"); ok {
			text = strings.TrimSuffix(cut, "\r")
		}
		value = []byte(text)
	}
	if len(value) == 0 {
		return nil, fmt.Errorf("%w value: it is empty", taubyte.ErrInvalid)
	}
	return value, nil
}

// stty asks for or changes a setting of the terminal. It reports false where standard
// input is none.
func stty(setting string) bool {
	cmd := exec.Command("stty", setting)
	cmd.Stdin = os.Stdin
	return cmd.Run() == nil
}

// listVariables lists the variables of a project, of those that have a branch or function
// the ones that count for what was asked for.
func listVariables(inv *invocation, c *api, path string, kind environment.Kind, at variablePlace) error {
	var all []environment.Variable
	if err := c.call(http.MethodGet, path+"?kind="+string(kind), nil, &all); err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(v environment.Variable) bool {
		branch, function := cmp.Or(taubyte.Branch(at.branch), v.Branch), cmp.Or(at.function, v.Function)
		return !v.Applies(branch, function)
	})
	if inv.asJSON {
		return inv.json(shown(all))
	}
	heading := []string{"NAME", "BRANCH", "FUNCTION", "VERSION", "SINCE", "BY"}
	if kind == environment.Plain {
		heading = append(heading, "VALUE")
	}
	var rows [][]string
	for _, v := range all {
		row := []string{v.Name, cmp.Or(string(v.Branch), "all"), cmp.Or(v.Function, "all"), strconv.FormatUint(v.Version, 10), v.Since.Local().Format(time.DateTime), v.By}
		if kind == environment.Plain {
			row = append(row, strconv.Quote(string(v.Value)))
		}
		rows = append(rows, row)
	}
	return inv.table(heading, rows)
}

// shownVariable is a variable with its value as text, which the API has in base64. One that
// is no text keeps that, under another name.
type shownVariable struct {
	environment.Variable
	Value string `json:"value,omitempty"`
	Bytes []byte `json:"valueBase64,omitempty"`
}

func shown(all []environment.Variable) []shownVariable {
	out := []shownVariable{}
	for _, v := range all {
		s := shownVariable{Variable: v}
		if utf8.Valid(v.Value) {
			s.Value = string(v.Value)
		} else {
			s.Bytes = v.Value
		}
		out = append(out, s)
	}
	return out
}

func secretsAdmin(inv *invocation, c *api, at variablePlace) error {
	switch inv.verb {
	case "keys":
		return list(inv, c, "/v1/auth/secrets/keys", []string{"GENERATION", "MADE", "SECRETS", "NODES"}, func(k auth.SecretKey) [][]string {
			return [][]string{{strconv.FormatUint(k.Number, 10), k.Made.Local().Format(time.DateTime), strconv.Itoa(k.Secrets), strconv.Itoa(len(k.Recipients))}}
		})
	case "rotate":
		var k auth.SecretKey
		if err := c.call(http.MethodPost, "/v1/auth/secrets/rotation", nil, &k); err != nil {
			return err
		}
		return told(inv, map[string]any{"generation": k.Number, "secrets": k.Secrets}, fmt.Sprintf("%d versions of secrets are sealed under generation %d of the key", k.Secrets, k.Number))
	}
	q := url.Values{"limit": {strconv.Itoa(at.limit)}}
	if at.project != "" {
		project, err := c.project(at.project)
		if err != nil && !errors.Is(err, taubyte.ErrNotFound) {
			return err
		}
		q.Set("project", cmp.Or(string(project), at.project)) // the log outlives it
	}
	var log auth.Accesses
	if err := c.call(http.MethodGet, "/v1/auth/secrets/audit?"+q.Encode(), nil, &log); err != nil {
		return err
	}
	for _, p := range log.Missing {
		fmt.Fprintf(inv.err, "the auth node %s does not answer: what was asked of it is missing\n", p)
	}
	if inv.asJSON {
		return inv.json(log.Accesses)
	}
	var rows [][]string
	for _, a := range log.Accesses {
		rows = append(rows, []string{a.Time.Local().Format(time.DateTime), a.Who, a.Action, a.Secret, strconv.FormatUint(a.Version, 10), a.Refused})
	}
	return inv.table([]string{"TIME", "WHO", "DID", "SECRET", "VERSION", "REFUSED"}, rows)
}
