package monkey

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/taubyte/taubyte"
)

// crates is where crates come from.
const crates = "registry+https://github.com/rust-lang/crates.io-index"

// prepareRust fetches the crates of a package, and returns the variables of its build.
// Compiled crates are kept for each folder of the project's.
func (s *Service) prepareRust(ctx context.Context, spec Spec, where string, src, scratch tree, k *kit, try func(error) error) ([]string, error) {
	// Cargo's own folder is this build's alone: with a configuration in it an earlier build
	// would say where crates come from. What was fetched is the project's.
	if err := scratch.root.Mkdir(scratch.at("cargo"), 0o700); err != nil {
		return nil, ours(fmt.Errorf("making a folder for cargo: %w", err))
	}
	sum := sha256.Sum256([]byte(where))
	env := append([]string{
		"CARGO_HOME=${TMP}/cargo", "CARGO_TARGET_DIR=${CACHE}/cargo-target-" + hex.EncodeToString(sum[:6]), "CARGO_INCREMENTAL=0", "CARGO_TERM_COLOR=never", "CARGO_PROFILE_RELEASE_STRIP=debuginfo",
	}, k.env...)
	if !s.confines() { // paths are in a module's messages
		env = append(env, "CARGO_ENCODED_RUSTFLAGS=--remap-path-prefix=${SRC}=/src\x1f--remap-path-prefix=${CACHE}=/cache\x1f--remap-path-prefix=${TMP}=/tmp")
	}
	link := Command{Words: []string{shell, "-c", `mkdir -p "$CACHE/cargo-registry" && ln -s "$CACHE/cargo-registry" "$TMP/cargo/registry"`}, Dir: "${SRC}", Log: spec.Log}
	if err := s.runOnce(ctx, spec, link); err != nil {
		return nil, err
	}
	if s.o.network || !hasFile(src, "Cargo.toml") {
		return env, nil
	}
	env = append(env, "CARGO_NET_OFFLINE=true")
	needs, err := crateSources(ctx, src)
	if err == nil && needs {
		fetching := spec
		fetching.Network = true
		fetch := Command{Words: []string{"cargo", "fetch", "--locked"}, Dir: "${SRC}", Env: append(append([]string{}, env...), "CARGO_NET_OFFLINE=false", "CARGO_ENCODED_RUSTFLAGS="), Log: spec.Log}
		if err = s.runOnce(ctx, fetching, fetch); err != nil {
			err = fmt.Errorf("fetching its crates: %w", err)
		}
	}
	return env, try(err)
}

// runOnce runs a command in a session of its own.
func (s *Service) runOnce(ctx context.Context, spec Spec, c Command) error {
	session, err := s.o.env.Open(ctx, spec)
	if err != nil {
		return err
	}
	defer session.Close()
	return s.failed(session.Exec(ctx, c))
}

// crateSources reports whether a package needs crates. It returns an error where they can't
// be fetched by a node that gives builds no network: what fetches them has it, and goes where
// the package says.
func crateSources(ctx context.Context, src tree) (needs bool, err error) {
	locked := false
	err = src.walk(ctx, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		dir, file := path.Base(path.Dir(name)), path.Base(name)
		config := dir == ".cargo" && (file == "config.toml" || file == "config")
		if d.IsDir() || file != "Cargo.toml" && file != "Cargo.lock" && !config {
			return nil
		}
		text, err := src.ReadFile(name)
		if err != nil {
			return err
		}
		var all map[string]any
		if err := toml.Unmarshal(text, &all); err != nil {
			return fmt.Errorf("%w %s: %w", taubyte.ErrInvalid, name, err)
		}
		from := ""
		switch {
		case config:
			for key := range all {
				if !slices.Contains([]string{"build", "target", "profile"}, key) {
					from = "its section " + key
				}
			}
			if build, ok := all["build"].(map[string]any); ok {
				for key := range build {
					if !slices.Contains([]string{"target", "rustflags"}, key) {
						from = "its key build." + key
					}
				}
			}
		default:
			locked = locked || name == "Cargo.lock"
			needs = needs || file == "Cargo.toml" && depends(all)
			from = elsewhere(all)
		}
		if from != "" {
			return fmt.Errorf("%w package: %s has %s, and builds on this node have no network but for crates.io (an operator allows it by build-network)",
				taubyte.ErrInvalid, name, from)
		}
		return nil
	})
	needs = needs || locked
	if err == nil && needs && !locked {
		err = fmt.Errorf("%w package: it has no Cargo.lock, by which its crates are fetched before the build: commit the one that cargo makes", taubyte.ErrInvalid)
	}
	return needs, err
}

// depends reports whether a manifest, or a part of one, names a dependency.
func depends(part map[string]any) bool {
	for key, value := range part {
		table, ok := value.(map[string]any)
		if ok && (strings.HasSuffix(key, "dependencies") && len(table) > 0 || depends(table)) {
			return true
		}
	}
	return false
}

// elsewhere is what in a manifest or lock leads to another place than crates.io, "" where
// nothing does.
func elsewhere(v any) string {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			text, isText := value.(string)
			switch key {
			case "git", "registry", "registry-index":
				if isText {
					return key + " " + strconv.Quote(text)
				}
			case "source":
				if isText && text != crates {
					return "the source " + strconv.Quote(text)
				}
			}
			if from := elsewhere(value); from != "" {
				return from
			}
		}
	case []any:
		for _, value := range v {
			if from := elsewhere(value); from != "" {
				return from
			}
		}
	case []map[string]any:
		for _, value := range v {
			if from := elsewhere(value); from != "" {
				return from
			}
		}
	}
	return ""
}
