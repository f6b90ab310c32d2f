package monkey

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/taubyte/taubyte"
)

// A workflow is what .taubyte/config.yaml says: the scripts that build a
// resource, and what they need.
type workflow struct {
	folder  string // ".taubyte", or "taubyte" of old
	image   string
	env     []string
	asks    []string // names of the project's variables and secrets
	labels  []string // of the worker that is needed
	scripts []string // without ".sh"
}

// workflowFolders are where a workflow may be, the first that has one.
var workflowFolders = []string{".taubyte", "taubyte"}

// maxAsks bounds the secrets and variables of a workflow.
const maxAsks = 100

// maxWorkflowSize bounds a file that people write.
const maxWorkflowSize = 1 << 20

var (
	scriptName   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// readWorkflow returns the workflow of a resource's folder, or nil where it has
// none.
func readWorkflow(fsys fs.FS) (*workflow, error) {
	for _, folder := range workflowFolders {
		name := path.Join(folder, "config.yaml")
		info, err := fs.Stat(fsys, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		if info.Size() > maxWorkflowSize {
			return nil, fmt.Errorf("reading %s: %w", name, taubyte.ErrTooLarge)
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		w, err := parseWorkflow(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		w.folder = folder
		for i, s := range w.scripts {
			if _, err := fs.Stat(fsys, path.Join(folder, s)); err == nil && strings.HasSuffix(s, ".sh") {
				w.scripts[i] = strings.TrimSuffix(s, ".sh") // by its file's name
				continue
			}
			if _, err := fs.Stat(fsys, path.Join(folder, s+".sh")); err != nil {
				return nil, fmt.Errorf("%s: %w: the workflow names %q, and there is no %s/%s.sh", name, taubyte.ErrInvalid, s, folder, s)
			}
		}
		return w, nil
	}
	return nil, nil
}

func parseWorkflow(text []byte) (*workflow, error) {
	type environment struct {
		Image     string    `yaml:"image"`
		Variables yaml.Node `yaml:"variables"`
		// What is set by "taubyte secrets" and "taubyte env" is given to the scripts by name.
		Secrets []string `yaml:"secrets"`
		Env     []string `yaml:"env"`
		// Labels are what the worker has to have, beside what it needs for the image.
		Labels []string `yaml:"labels"`
	}
	var file struct {
		Version     any          `yaml:"version"`
		Environment *environment `yaml:"environment"`
		Misspelt    *environment `yaml:"enviroment"` // as old tools wrote it
		Workflow    []string     `yaml:"workflow"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("%w: %w", taubyte.ErrInvalid, err)
	}
	w := &workflow{scripts: file.Workflow}
	env := file.Environment
	if env == nil {
		env = file.Misspelt
	}
	if env != nil {
		w.image = env.Image
		vars, err := variables(&env.Variables)
		if err != nil {
			return nil, err
		}
		w.env = vars
		if w.labels, err = readLabels(env.Labels); err != nil {
			return nil, err
		}
		w.asks = append(env.Secrets, env.Env...)
		for _, name := range w.asks {
			if !variableName.MatchString(name) {
				return nil, fmt.Errorf("%w: %q is no name of a secret or variable", taubyte.ErrInvalid, name)
			}
		}
		slices.Sort(w.asks)
		if w.asks = slices.Compact(w.asks); len(w.asks) > maxAsks {
			return nil, fmt.Errorf("%w: the workflow asks for more than %d secrets and variables", taubyte.ErrInvalid, maxAsks)
		}
	}
	if len(w.scripts) == 0 {
		w.scripts = []string{"build"} // old files have "workflow:" with nothing after it
	}
	for _, s := range w.scripts {
		if !scriptName.MatchString(s) {
			return nil, fmt.Errorf("%w: %q is no name of a script (it stands for a file <name>.sh beside config.yaml)", taubyte.ErrInvalid, s)
		}
	}
	return w, nil
}

// variables reads a map, a list of maps or of lines NAME=value, or nothing.
func variables(node *yaml.Node) ([]string, error) {
	var maps []map[string]string
	var err error
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch node.Kind {
	case yaml.MappingNode:
		maps = make([]map[string]string, 1)
		err = node.Decode(&maps[0])
	case yaml.SequenceNode:
		for _, item := range node.Content {
			m := map[string]string{}
			if name, value, ok := strings.Cut(item.Value, "="); item.Kind == yaml.ScalarNode && ok {
				m[name] = value
			} else if err = item.Decode(&m); err != nil {
				break
			}
			maps = append(maps, m)
		}
	case 0:
	default:
		if node.Tag != "!!null" {
			err = fmt.Errorf("line %d: variables is neither a map nor a list of maps", node.Line)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", taubyte.ErrInvalid, err)
	}
	var vars []string
	for _, m := range maps {
		for name, value := range m {
			if !variableName.MatchString(name) {
				return nil, fmt.Errorf("%w: %q is no name of a variable", taubyte.ErrInvalid, name)
			}
			if strings.ContainsRune(value, 0) {
				return nil, fmt.Errorf("%w: the value of %s has a zero byte", taubyte.ErrInvalid, name)
			}
			vars = append(vars, name+"="+value)
		}
	}
	slices.Sort(vars)
	return vars, nil
}
