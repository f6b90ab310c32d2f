package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/taubyte/taubyte/internal/guestsdk"
)

func sdkCommand() command {
	return command{
		name: "sdk", args: "[DIR]", summary: "write a go.work into a folder, so that editors, go vet and go test find the SDK of the functions in it",
		maxArgs: 1,
		prepare: func(*flag.FlagSet) func(*invocation) error {
			return func(inv *invocation) error {
				dir := "."
				if len(inv.args) == 1 {
					dir = inv.args[0]
				}
				cache, err := os.UserCacheDir()
				if err != nil {
					return fmt.Errorf("finding a folder for the SDK: %w", err)
				}
				functions, err := guestsdk.ForEditors(filepath.Join(cache, "taubyte", "sdk"), dir)
				if err != nil {
					return err
				}
				if inv.asJSON {
					return inv.json(map[string]any{"workspace": filepath.Join(dir, "go.work"), "functions": functions})
				}
				_, err = fmt.Fprintf(inv.out, "%s has %d functions and the SDK\n", filepath.Join(dir, "go.work"), len(functions))
				return err
			}
		},
	}
}
