package container

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/taubyte/taubyte"
)

// A dockerfile is a stranger's Dockerfile, read as the engine's classic builder reads one: by
// instructions, each on one line. What the engine gets is written anew from these, so that it
// finds no instruction that was not looked at here.
type dockerfile struct {
	escape byte
	steps  []step
	stages []string // names, "" for none
}

// A step is one instruction.
type step struct {
	name  string   // "RUN"
	flags []string // "--from=build"
	rest  string
	stage int // -1 before the first FROM
}

const (
	maxDockerfile = 1 << 20
	maxSteps      = 1000 // instructions
)

// kept are the instructions that are handed on as they are.
var kept = []string{"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "MAINTAINER", "RUN", "SHELL", "STOPSIGNAL", "USER", "WORKDIR"}

var (
	directiveRule = regexp.MustCompile(`^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$`)
	heredocRule   = regexp.MustCompile(`(^|\s)\d*<<-?['"]?[A-Za-z_]`)
	stageRule     = regexp.MustCompile(`^[a-z][a-z0-9_.-]*$`)
	argumentRule  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	variableRule  = regexp.MustCompile(`\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:[-+])([^{}$]*))?\})`)
	archiveRule   = regexp.MustCompile(`(?i)\.(tar|tgz|tbz2?|txz|gz|bz2|xz|zst|lzma)$`)
)

// parseDockerfile reads a Dockerfile, and refuses what can't be built within limits.
func parseDockerfile(text []byte) (*dockerfile, error) {
	if len(text) > maxDockerfile {
		return nil, fmt.Errorf("%w: the Dockerfile has more than %d bytes", taubyte.ErrTooLarge, maxDockerfile)
	}
	d := &dockerfile{escape: '\\'}
	lines := strings.Split(strings.TrimPrefix(string(text), "\ufeff"), "\n")
	directives, joined, more, at := true, "", false, 0
	for i, line := range lines {
		line = strings.TrimSuffix(line, "\r")
		bare := strings.TrimLeft(line, " \t\v\f\r")
		if directives {
			m := directiveRule.FindStringSubmatch(bare)
			if m == nil {
				directives = false
			} else if strings.EqualFold(m[1], "escape") {
				if m[2] != "\\" && m[2] != "`" {
					return nil, fmt.Errorf("%w Dockerfile: line %d: the escape character %q", taubyte.ErrInvalid, i+1, m[2])
				}
				d.escape = m[2][0]
			}
		}
		if bare == "" || bare[0] == '#' {
			if i < len(lines)-1 || !more {
				continue
			}
			bare, line = "", ""
		}
		if !more {
			joined, line, at = "", bare, i+1
		}
		end := strings.TrimRight(line, " \t")
		if more = strings.HasSuffix(end, string(d.escape)) && i < len(lines)-1; more {
			joined += end[:len(end)-1]
			continue
		}
		joined = strings.TrimSpace(joined + line)
		if joined == "" {
			continue
		}
		if err := d.add(joined); err != nil {
			return nil, fmt.Errorf("%w Dockerfile: line %d: %w", taubyte.ErrInvalid, at, err)
		}
	}
	if len(d.stages) == 0 {
		return nil, fmt.Errorf("%w Dockerfile: it has no FROM", taubyte.ErrInvalid)
	}
	return d, nil
}

// add reads one instruction.
func (d *dockerfile) add(line string) error {
	if strings.ContainsAny(line, "\x00\n\r") {
		return fmt.Errorf("a character that ends no line")
	}
	if strings.HasSuffix(line, string(d.escape)) {
		return fmt.Errorf("nothing follows the %q at its end", string(d.escape))
	}
	if len(d.steps) == maxSteps {
		return fmt.Errorf("more than %d instructions", maxSteps)
	}
	s := step{stage: len(d.stages) - 1}
	s.name, s.rest = word(line)
	s.name = strings.ToUpper(s.name)
	for strings.HasPrefix(s.rest, "--") {
		var flag string
		if flag, s.rest = word(s.rest); flag == "--" {
			break
		}
		s.flags = append(s.flags, flag)
	}
	switch {
	case s.name == "FROM":
		return d.from(s)
	case s.name == "ONBUILD":
		return fmt.Errorf("ONBUILD is not built: write out what it stands for")
	case s.name == "VOLUME", s.name == "LABEL":
		// A build keeps nothing in volumes, and nothing would bound what is in them. Labels are
		// what the build's layers are found by.
		return nil
	case s.name == "ADD":
	case !slices.Contains(kept, s.name):
		return fmt.Errorf("there is no instruction %q", s.name)
	}
	if s.stage < 0 && s.name != "ARG" {
		return fmt.Errorf("%s before the first FROM", s.name)
	}
	copies := s.name == "RUN" || s.name == "COPY" || s.name == "ADD"
	if copies && heredocRule.MatchString(s.rest) {
		return fmt.Errorf("here-documents need BuildKit, which does not keep to the limits of builds: use several RUN, or a file and COPY")
	}
	if s.name == "RUN" && len(s.flags) > 0 {
		return fmt.Errorf("RUN %s needs BuildKit, which does not keep to the limits of builds", s.flags[0])
	}
	d.steps = append(d.steps, s)
	return nil
}

// from reads the beginning of a stage: "FROM image AS name".
func (d *dockerfile) from(s step) error {
	s.flags = slices.DeleteFunc(s.flags, func(f string) bool { return strings.HasPrefix(f, "--platform=") }) // it is the node's
	words := strings.Fields(s.rest)
	name := ""
	switch {
	case len(s.flags) > 0:
		return fmt.Errorf("FROM with %s", s.flags[0])
	case len(words) == 3 && strings.EqualFold(words[1], "AS"):
		if name = strings.ToLower(words[2]); !stageRule.MatchString(name) {
			return fmt.Errorf("%q is no name of a stage", words[2])
		}
	case len(words) != 1:
		return fmt.Errorf("FROM takes an image, and AS with a name")
	}
	s.rest, s.stage = words[0], len(d.stages)
	d.stages = append(d.stages, name)
	d.steps = append(d.steps, s)
	return nil
}

// word is the first word of a line, and what follows it.
func word(line string) (first, rest string) {
	at := strings.IndexAny(line, " \t\v\f\r")
	if at < 0 {
		return line, ""
	}
	return line[:at], strings.TrimSpace(line[at:])
}

// A place says what an image's name stands for: an id, with what is to be known of it.
type place func(name string) (id string, err error)

// bases are the images that it begins with or copies from, each once.
func (d *dockerfile) bases() (all []string, err error) {
	_, err = d.text(nil, "", func(name string) (string, error) {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
		return name, nil
	})
	return all, err
}

// text is what the engine is given: with ids for names of images, so that it pulls none, and
// with a label in each stage before all that the stage does, so that what it makes is known
// and no other project's.
func (d *dockerfile) text(context fs.FS, label string, image place) ([]byte, error) {
	var out []string
	if d.escape != '\\' {
		out = append(out, "# escape="+string(d.escape))
	}
	args := map[string]string{} // of before the first FROM
	for _, s := range d.steps {
		switch s.name {
		case "ARG":
			if s.stage < 0 {
				if err := arguments(args, s.rest); err != nil {
					return nil, err
				}
			}
		case "FROM":
			name, err := expand(s.rest, args)
			if err != nil {
				return nil, err
			}
			if s.rest, err = d.origin(name, s.stage, true, image); err != nil {
				return nil, err
			}
			if as := d.stages[s.stage]; as != "" {
				s.rest += " AS " + as
			}
		case "COPY", "ADD":
			for i, f := range s.flags {
				name, ok := strings.CutPrefix(f, "--from=")
				if !ok {
					continue
				}
				id, err := d.origin(name, s.stage, false, image)
				if err != nil {
					return nil, err
				}
				s.flags = slices.Clone(s.flags)
				s.flags[i] = "--from=" + id
			}
			if s.name == "ADD" && context != nil {
				if err := added(s.rest, context); err != nil {
					return nil, err
				}
				s.name = "COPY"
			}
		}
		out = append(out, strings.Join(slices.DeleteFunc(append(append([]string{s.name}, s.flags...), s.rest), func(w string) bool { return w == "" }), " "))
		if label != "" && s.name == "FROM" {
			out = append(out, "LABEL "+label)
		}
	}
	return []byte(strings.Join(out, "\n") + "\n"), nil
}

// origin is what a FROM or a --from names: an earlier stage, or an image.
func (d *dockerfile) origin(name string, stage int, from bool, image place) (string, error) {
	earlier := d.stages[:stage]
	if slices.Contains(earlier, strings.ToLower(name)) && name != "" {
		return strings.ToLower(name), nil
	}
	if n, err := strconv.Atoi(name); err == nil && !from {
		if n < 0 || n >= stage {
			return "", fmt.Errorf("%w Dockerfile: --from=%s is no earlier stage", taubyte.ErrInvalid, name)
		}
		return name, nil
	}
	switch {
	case strings.ContainsRune(name, '$'):
		return "", fmt.Errorf("%w Dockerfile: --from=%s: a variable names no image here", taubyte.ErrInvalid, name)
	case name == "scratch" && from:
		return name, nil
	case name == "":
		return "", fmt.Errorf("%w Dockerfile: a FROM or --from without a name", taubyte.ErrInvalid)
	}
	return image(name)
}

// arguments takes what an ARG sets: "NAME=value", or a name without one.
func arguments(args map[string]string, text string) error {
	for _, w := range strings.Fields(text) {
		name, value, _ := strings.Cut(w, "=")
		if !argumentRule.MatchString(name) {
			return fmt.Errorf("%w Dockerfile: ARG %s: a value with blanks, or no name", taubyte.ErrInvalid, text)
		}
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		value, err := expand(value, args)
		if err != nil {
			return err
		}
		args[name] = value
	}
	return nil
}

// expand replaces $NAME, ${NAME}, ${NAME:-default} and ${NAME:+instead}.
func expand(text string, args map[string]string) (string, error) {
	out := variableRule.ReplaceAllStringFunc(text, func(found string) string {
		m := variableRule.FindStringSubmatch(found)
		value := args[m[1]+m[2]]
		if m[3] == ":-" && value == "" || m[3] == ":+" && value != "" {
			return m[4]
		}
		return value
	})
	if strings.ContainsAny(out, "$\"'\\` \t") || len(out) > 1024 {
		return "", fmt.Errorf("%w Dockerfile: can't tell what %q stands for", taubyte.ErrInvalid, text)
	}
	return out, nil
}

// added returns an error for an ADD that does more than COPY: the engine itself fetches
// addresses, and unpacks archives, past all limits.
func added(rest string, context fs.FS) error {
	words := strings.Fields(rest)
	if strings.HasPrefix(rest, "[") {
		if err := json.Unmarshal([]byte(rest), &words); err != nil {
			return fmt.Errorf("%w Dockerfile: ADD %s", taubyte.ErrInvalid, rest)
		}
	}
	refuse := func(what, instead string) error {
		return fmt.Errorf("%w Dockerfile: ADD of %s: the engine would %s", taubyte.ErrInvalid, what, instead)
	}
	for _, from := range words[:max(len(words)-1, 0)] {
		switch {
		case strings.Contains(from, "://"), strings.HasPrefix(from, "git@"), strings.HasPrefix(strings.ToLower(from), "github.com/"):
			return refuse(from, "fetch it without any limit; have a RUN fetch it, where builds are given a network")
		case strings.ContainsRune(from, '$'):
			return refuse(from, "do so with whatever the variable holds; use COPY")
		case archiveRule.MatchString(from):
			name := strings.TrimPrefix(path.Clean("/"+from), "/")
			if info, err := fs.Stat(context, name); err == nil && info.IsDir() {
				continue
			}
			return refuse(from, "unpack it without any limit; use COPY, and RUN tar")
		}
	}
	return nil
}
