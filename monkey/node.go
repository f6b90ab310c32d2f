package monkey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/taubyte/taubyte"
)

// A packager is what installs the packages of a package.json.
type packager struct {
	name  string // its program
	lock  string // its file, "" where there is none
	fetch []string
	full  []string // fetch with the packages' own scripts
}

// packagers, the one whose lock file is there first.
var packagers = []packager{
	{"pnpm", "pnpm-lock.yaml",
		[]string{"pnpm", "install", "--frozen-lockfile", "--ignore-scripts", "--ignore-pnpmfile"},
		[]string{"pnpm", "install", "--frozen-lockfile"}},
	{"yarn", "yarn.lock",
		[]string{"yarn", "install", "--frozen-lockfile", "--ignore-scripts", "--non-interactive"},
		[]string{"yarn", "install", "--frozen-lockfile"}},
	{"npm", "package-lock.json",
		[]string{"npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"},
		[]string{"npm", "ci", "--no-audit", "--no-fund"}},
	{"npm", "npm-shrinkwrap.json",
		[]string{"npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"},
		[]string{"npm", "ci", "--no-audit", "--no-fund"}},
}

// packageManager is what the lock file of a folder decides: npm where there is none.
func packageManager(src tree) packager {
	for _, m := range packagers {
		if info, err := src.Stat(m.lock); err == nil && info.Mode().IsRegular() {
			return m
		}
	}
	return packager{"npm", "", nil, []string{"npm", "install", "--no-audit", "--no-fund", "--no-package-lock"}}
}

// A manifest is what a build needs to know of a package.json.
type manifest struct {
	Scripts              map[string]string `json:"scripts"`
	Dependencies         map[string]string `json:"dependencies"`
	DevDependencies      map[string]string `json:"devDependencies"`
	OptionalDependencies map[string]string `json:"optionalDependencies"`
	Workspaces           json.RawMessage   `json:"workspaces"`
}

// readManifest reads the package.json of a folder, nil where it has none.
func readManifest(src tree) (*manifest, error) {
	text, err := src.ReadFile("package.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading package.json: %w", err)
	}
	m := new(manifest)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%w package.json: %w", taubyte.ErrInvalid, err)
	}
	return m, nil
}

// packages reports whether there is something to install.
func (m *manifest) packages() bool {
	return len(m.Dependencies)+len(m.DevDependencies)+len(m.OptionalDependencies) > 0 || m.Workspaces != nil
}

func (m *manifest) has(name string) bool {
	_, plain := m.Dependencies[name]
	_, dev := m.DevDependencies[name]
	return plain || dev
}

// nodeEnv are the variables of a build with Node.js: what it fetches is kept for the
// project's next build.
var nodeEnv = []string{
	"npm_config_cache=${CACHE}/npm", "YARN_CACHE_FOLDER=${CACHE}/yarn",
	"npm_config_update_notifier=false", "npm_config_fund=false", "npm_config_audit=false", "npm_config_prefer_offline=true",
	"COREPACK_ENABLE_PROJECT_SPEC=0", "COREPACK_ENV_FILE=0", "COREPACK_HOME=${CACHE}/corepack",
	"NEXT_TELEMETRY_DISABLED=1", "ASTRO_TELEMETRY_DISABLED=1", "NG_CLI_ANALYTICS=false",
}

// pnpmEnv are those for pnpm, of which npm would complain.
var pnpmEnv = []string{
	"npm_config_store_dir=${CACHE}/pnpm", "npm_config_confirm_modules_purge=false", "npm_config_manage_package_manager_versions=false",
}

// prepareNode fetches the packages of a package.json where the build itself has no network,
// and returns the variables of the build.
func (s *Service) prepareNode(ctx context.Context, spec Spec, src tree, k *kit, try func(error) error) ([]string, error) {
	by := packageManager(src)
	env := slices.Concat(nodeEnv, k.env)
	if by.name == "pnpm" {
		env = append(env, pnpmEnv...)
	}
	m, err := readManifest(src)
	if err != nil {
		return env, try(err)
	}
	if s.o.network || m == nil || !m.packages() {
		return env, nil
	}
	err = packageSources(src, by, env)
	if err == nil {
		spec.Network = true
		if err = s.runOnce(ctx, spec, Command{Words: by.fetch, Dir: "${SRC}", Env: env, Log: spec.Log}); err != nil {
			err = fmt.Errorf("fetching its packages: %w", err)
		}
	}
	return env, try(err)
}

// packageScript builds a package.json: what is fetched already gets its own scripts run.
func (s *Service) packageScript(src tree, m *manifest) string {
	by := packageManager(src)
	var lines []string
	switch {
	case !m.packages():
	case s.o.network:
		lines = append(lines, strings.Join(by.full, " "))
	case by.name == "pnpm":
		lines = append(lines, "pnpm rebuild")
	default:
		lines = append(lines, "npm rebuild")
	}
	if m.Scripts["build"] != "" {
		lines = append(lines, by.name+" run build")
	}
	return strings.Join(lines, "\n") + "\n"
}

// registries are where packages come from, unless an operator has set another.
var registries = []string{"registry.npmjs.org", "registry.yarnpkg.com"}

// Settings of package managers that say nothing of where packages come from, or what runs.
var npmrcKeys = []string{
	"legacy-peer-deps", "strict-peer-deps", "strict-peer-dependencies", "engine-strict", "save-exact", "save-prefix", "save", "fund", "audit",
	"auto-install-peers", "shamefully-hoist", "node-linker", "public-hoist-pattern[]", "public-hoist-pattern", "hoist", "progress", "loglevel",
	"package-lock", "force", "prefer-offline", "update-notifier", "link-workspace-packages", "dedupe-peer-dependents", "resolution-mode", "omit-lockfile-registry-resolved",
}

// packageSources returns an error for a package whose dependencies can't be fetched by a
// node that gives builds no network: what fetches them has it, and goes where the package,
// its lock and its settings say.
func packageSources(src tree, by packager, env []string) error {
	const only = "and builds on this node have no network but for the registry of packages (an operator allows it by build-network)"
	refuse := func(file, what string) error {
		return fmt.Errorf("%w package: %s %s, %s", taubyte.ErrInvalid, file, what, only)
	}
	if by.lock == "" {
		return fmt.Errorf("%w package: it has no lock file, by which its packages are fetched before the build: commit package-lock.json, pnpm-lock.yaml or yarn.lock", taubyte.ErrInvalid)
	}
	hosts := registries
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, "npm_config_registry="); ok {
			if u, err := url.Parse(value); err == nil {
				hosts = []string{u.Hostname()}
			}
		}
	}
	for _, name := range []string{".yarnrc", ".yarnrc.yml", ".yarnrc.yaml", ".corepack.env"} {
		if _, err := src.Lstat(name); err == nil {
			return refuse(name, "says where packages come from or what installs them")
		}
	}
	if text, err := src.ReadFile(".npmrc"); err == nil {
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			key, _, _ := strings.Cut(line, "=")
			if line != "" && line[0] != '#' && line[0] != ';' && !slices.Contains(npmrcKeys, strings.TrimSpace(key)) {
				return refuse(".npmrc", "sets "+strings.TrimSpace(key))
			}
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if text, err := src.ReadFile("pnpm-workspace.yaml"); err == nil {
		var w map[string]any
		if err := yaml.Unmarshal(text, &w); err != nil {
			return fmt.Errorf("%w pnpm-workspace.yaml: %w", taubyte.ErrInvalid, err)
		}
		for key := range w {
			if !slices.Contains([]string{"packages", "catalog", "catalogs", "onlyBuiltDependencies", "ignoredBuiltDependencies", "nodeLinker", "shamefullyHoist"}, key) {
				return refuse("pnpm-workspace.yaml", "sets "+key)
			}
		}
	}
	m, err := readManifest(src)
	if err != nil {
		return err
	}
	for _, deps := range []map[string]string{m.Dependencies, m.DevDependencies, m.OptionalDependencies} {
		for name, version := range deps {
			if !ofRegistry(version) {
				return refuse("package.json", "has "+name+" from "+strconv.Quote(version))
			}
		}
	}
	text, err := src.ReadFile(by.lock)
	if err != nil {
		return fmt.Errorf("reading %s: %w", by.lock, err)
	}
	at, err := lockURLs(by, text)
	if err != nil {
		return fmt.Errorf("%w %s: %w", taubyte.ErrInvalid, by.lock, err)
	}
	for _, from := range at {
		u, err := url.Parse(from)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || !slices.Contains(hosts, u.Hostname()) {
			return refuse(by.lock, "has a package from "+strconv.Quote(from))
		}
	}
	return nil
}

var rangeRule = regexp.MustCompile(`^[\w .,<>=~^|*+-]*$`)

// ofRegistry reports whether a dependency's version is one of the registry, or of the
// workspace.
func ofRegistry(version string) bool {
	for _, prefix := range []string{"npm:", "workspace:", "catalog:"} {
		if rest, ok := strings.CutPrefix(version, prefix); ok {
			return !strings.Contains(rest, ":") && (prefix != "npm:" || !strings.HasPrefix(rest, "/"))
		}
	}
	if rest, ok := strings.CutPrefix(version, "file:"); ok {
		return !strings.HasPrefix(rest, "//") && !strings.Contains(path.Clean(rest), ":")
	}
	return rangeRule.MatchString(version)
}

// lockURLs are the addresses that a lock file has packages from.
func lockURLs(by packager, text []byte) (all []string, err error) {
	switch by.name {
	case "npm":
		type dependency struct {
			Resolved     string                     `json:"resolved"`
			Version      string                     `json:"version"`
			Link         bool                       `json:"link"`
			Dependencies map[string]json.RawMessage `json:"dependencies"`
		}
		var lock struct {
			Packages     map[string]dependency      `json:"packages"`
			Dependencies map[string]json.RawMessage `json:"dependencies"`
		}
		if err := json.Unmarshal(text, &lock); err != nil {
			return nil, err
		}
		for _, p := range lock.Packages {
			if p.Resolved != "" && !p.Link && !strings.HasPrefix(p.Resolved, "file:") {
				all = append(all, p.Resolved)
			}
			if !ofRegistry(p.Version) {
				all = append(all, p.Version)
			}
		}
		var old func(map[string]json.RawMessage, int) error // lock files of version 1
		old = func(deps map[string]json.RawMessage, depth int) error {
			if depth > maxDepth {
				return taubyte.ErrTooLarge
			}
			for _, raw := range deps {
				var d dependency
				if json.Unmarshal(raw, &d) != nil {
					continue // in version 3 it is a version
				}
				if d.Resolved != "" && !strings.HasPrefix(d.Resolved, "file:") {
					all = append(all, d.Resolved)
				}
				if !ofRegistry(d.Version) {
					all = append(all, d.Version)
				}
				if err := old(d.Dependencies, depth+1); err != nil {
					return err
				}
			}
			return nil
		}
		return all, old(lock.Dependencies, 0)
	case "yarn":
		if strings.Contains(string(text), "\n__metadata:") {
			return nil, errors.New("it is of Yarn 2 or later, which runs what the project says while it installs: builds on this node have no network for that")
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if from, ok := strings.CutPrefix(line, "resolved "); ok {
				all = append(all, strings.Trim(from, `"`))
			} else if strings.HasSuffix(line, ":") && (strings.Contains(line, "://") || strings.Contains(line, "git@")) {
				all = append(all, line)
			}
		}
		return all, nil
	}
	var lock map[string]any
	if err := yaml.Unmarshal(text, &lock); err != nil {
		return nil, err
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, value := range v {
				text, isText := value.(string)
				switch {
				case isText && (key == "tarball" || key == "repo"):
					all = append(all, text)
				case isText && key == "type" && text == "git":
					all = append(all, "git")
				case isText && key == "version" && strings.Contains(text, "://"):
					all = append(all, text)
				}
				walk(value)
			}
		case []any:
			for _, value := range v {
				walk(value)
			}
		}
	}
	walk(lock)
	return all, nil
}
