package main

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
)

func networkCommand() command {
	return command{
		name: "network", args: "rotate --swarm | --root", summary: "replace a key of the network while it runs, at a node that runs auth",
		minArgs: 1, maxArgs: 1,
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			swarm := fs.Bool("swarm", false, "replace the swarm key, under which nodes connect")
			root := fs.Bool("root", false, "replace the root key, which signs memberships")
			wait := fs.Duration("wait", time.Minute, "how long members may take to confirm a step")
			force := fs.Bool("force", false, "go on after that, and cut off who has not confirmed")
			return asking(fs, func(inv *invocation, c *api) error {
				if inv.args[0] != "rotate" {
					return fmt.Errorf("%w: no command \"network %s\" (there is rotate)", taubyte.ErrInvalid, inv.args[0])
				}
				if *swarm == *root {
					return fmt.Errorf("%w: give either --swarm or --root", taubyte.ErrInvalid)
				}
				kind := taubyte.KeySwarm
				if *root {
					kind = taubyte.KeyRoot
				}
				return rotate(inv, c, kind, *wait, *force)
			})
		},
	}
}

// rotate walks through the steps, from wherever an earlier run stopped.
func rotate(inv *invocation, c *api, kind taubyte.KeyKind, wait time.Duration, force bool) error {
	for {
		done, err := rotateStep(inv, c, kind, wait, force)
		if err != nil {
			return err
		}
		stage := done.Stage
		if stage == taubyte.StageNone {
			stage = "retired"
		}
		if !inv.asJSON {
			what := map[taubyte.RotationStage]string{
				taubyte.StageIntroduced: "a new %s key is introduced: all members accept it (version %d)",
				taubyte.StageSwitched:   "the new %s key is in use; the old one is accepted still (version %d)",
				"retired":               "the old %s key is refused (version %d)",
			}[stage]
			fmt.Fprintf(inv.out, what+"\n", kind, done.Version)
		}
		if len(done.CutOff) > 0 {
			var names []string
			for _, m := range done.CutOff {
				names = append(names, strings.TrimSpace(m.Name+" "+m.Peer.String()))
			}
			fmt.Fprintf(inv.err, "cut off: %s; make them members again with \"taubyte member add\"\n", strings.Join(names, ", "))
		}
		if done.Stage == taubyte.StageNone {
			if inv.asJSON {
				return inv.json(done)
			}
			return nil
		}
	}
}

// rotateStep does one step, as soon as all members have confirmed the one before.
func rotateStep(inv *invocation, c *api, kind taubyte.KeyKind, wait time.Duration, force bool) (done auth.Rotation, err error) {
	for until := time.Now().Add(wait); ; {
		late := !time.Now().Before(until)
		err = c.call(http.MethodPost, "/v1/auth/network/rotation", map[string]any{"kind": kind, "force": force && late}, &done)
		if !errors.Is(err, taubyte.ErrUnavailable) || late {
			return done, err
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-inv.ctx.Done():
			return done, inv.ctx.Err()
		}
	}
}
