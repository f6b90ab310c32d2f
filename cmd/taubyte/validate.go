package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns/config"
)

func validateCommand() command {
	return command{
		name: "validate", args: "[DIR | KIND]", summary: "check the configuration of the project in a folder and report every fault in it",
		maxArgs: 1,
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			schema := fs.Bool("schema", false, "print the JSON Schema of the files of KIND ("+strings.Join(config.Kinds(), ", ")+"), or of all, for editors, and check nothing")
			return func(inv *invocation) error {
				if *schema && len(inv.args) == 1 {
					text, err := config.SchemaOf(inv.args[0])
					if err == nil {
						_, err = inv.out.Write(text)
					}
					return err
				}
				if *schema {
					_, err := inv.out.Write(config.Schema())
					return err
				}
				dir := "."
				if len(inv.args) == 1 {
					dir = inv.args[0]
				}
				return validate(inv, dir)
			}
		},
	}
}

// validate takes a project's folder, or its config folder.
func validate(inv *invocation, dir string) error {
	root := filepath.Join(dir, "config")
	if _, err := os.Stat(filepath.Join(dir, "config.yaml")); err == nil {
		root = dir
	} else if _, err := os.Stat(filepath.Join(root, "config.yaml")); err != nil {
		return fmt.Errorf("%w project: %s holds neither config/config.yaml nor config.yaml", taubyte.ErrInvalid, dir)
	}
	_, faults := config.Compile(os.DirFS(root))
	if inv.asJSON {
		if err := inv.json(map[string]any{"valid": !faults.HasErrors(), "diagnostics": faults}); err != nil {
			return err
		}
	} else {
		for _, d := range faults {
			d.File = filepath.Join(root, filepath.FromSlash(d.File))
			fmt.Fprintln(inv.out, d)
		}
	}
	if faults.HasErrors() {
		return fmt.Errorf("%w configuration in %s", taubyte.ErrInvalid, root)
	}
	if !inv.asJSON {
		fmt.Fprintf(inv.out, "%s is valid\n", root)
	}
	return nil
}
