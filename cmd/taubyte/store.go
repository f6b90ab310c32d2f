package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/cloud"
)

func storeCommand() command {
	return command{
		name: "store", args: "reset --data DIR | --config FILE", summary: "set a node's damaged store aside, to be filled again from the other members",
		minArgs: 1, maxArgs: 1,
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			config := fs.String("config", "", "the node's configuration")
			data := fs.String("data", "", "the node's data folder, in place of --config")
			yes := fs.Bool("yes", false, "do it also on a node that knows no other member, where nothing fills the store again")
			return func(inv *invocation) error {
				if inv.args[0] != "reset" {
					return fmt.Errorf("%w: no command \"store %s\" (there is reset)", taubyte.ErrInvalid, inv.args[0])
				}
				dir, alone, err := storeOf(*config, *data)
				if err != nil {
					return err
				}
				if alone && !*yes {
					return fmt.Errorf("%w: the node on %s knows no other member: what its store holds is nowhere else, and starting again means starting empty; "+
						"copy the folder first, then repeat with --yes", taubyte.ErrConflict, dir)
				}
				return resetStore(inv, dir)
			}
		},
	}
}

// storeOf returns the data folder that is meant, and whether its node knows no other.
func storeOf(config, data string) (dir string, alone bool, err error) {
	if (config == "") == (data == "") {
		return "", false, fmt.Errorf("%w: give either --config or --data", taubyte.ErrInvalid)
	}
	if config == "" { // where "taubyte init" puts it
		config = filepath.Join(filepath.Dir(filepath.Clean(data)), "taubyte.yaml")
		c, err := cloud.ReadConfig(config)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !sameFile(c.DataDir(), data) {
			return data, true, nil
		}
		if err != nil {
			return "", false, err
		}
		return data, len(c.Peers) == 0, nil
	}
	c, err := cloud.ReadConfig(config)
	if err != nil {
		return "", false, err
	}
	return c.DataDir(), len(c.Peers) == 0, nil
}

func sameFile(a, b string) bool {
	ia, errA := os.Stat(a)
	ib, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(ia, ib)
}

func resetStore(inv *invocation, dir string) error {
	done, err := cloud.ResetStore(inv.ctx, dir)
	if err != nil {
		return err
	}
	if inv.asJSON {
		return inv.json(map[string]any{"aside": done.Aside, "newIdentity": done.NewIdentity})
	}
	fmt.Fprintf(inv.out, "the store is set aside: %s\n", done.Aside)
	if done.NewIdentity {
		fmt.Fprintln(inv.out, "the node's identity was in it and is lost: the node will be a new peer, which needs a membership of its own; revoke the old one")
	}
	fmt.Fprintf(inv.out, "Start the node: it fills an empty store from the other members. When it has, delete what is aside:\n  rm -r %s\n", done.Aside)
	return nil
}
