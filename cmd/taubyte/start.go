package main

import (
	"flag"
	"fmt"
	"strings"

	"github.com/taubyte/taubyte/cloud"
)

func startCommand() command {
	return command{
		name: "start", args: "--config FILE", summary: "run a node with the services that its configuration names, until interrupted",
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			config := fs.String("config", "taubyte.yaml", "the node's configuration; \"taubyte init\" makes one")
			builds := fs.String("builds", "", "how builds run: \"confined\", \"container\", or \"plain\" with all rights of the node (default: as the configuration says)")
			level := logFlag(fs, "info")
			return func(inv *invocation) error {
				c, err := cloud.ReadConfig(*config)
				if err != nil {
					return err
				}
				if *builds != "" {
					c.Builds = *builds
				}
				opts, err := c.Options()
				if err != nil {
					return fmt.Errorf("%s: %w", *config, err)
				}
				log, err := logger(inv.err, *level)
				if err != nil {
					return err
				}
				return start(inv, c, append(opts, cloud.WithLogger(log)))
			}
		},
	}
}

func start(inv *invocation, c *cloud.Config, opts []cloud.Option) error {
	node, err := cloud.Open(inv.ctx, c.DataDir(), opts...)
	if err != nil {
		return err
	}
	if inv.asJSON {
		err = inv.json(map[string]string{"id": node.Host.ID().String(), "api": node.API(), "url": node.URL(), "secureURL": node.SecureURL()})
	} else {
		_, err = fmt.Fprintf(inv.out, "node %s runs %s\n  API  %s\n", node.Host.ID(), strings.Join(c.Services, ", "), node.API())
		if url := node.URL(); url != "" && err == nil {
			_, err = fmt.Fprintf(inv.out, "  HTTP %s\n", url)
		}
		if url := node.SecureURL(); url != "" && err == nil {
			_, err = fmt.Fprintf(inv.out, "  HTTPS %s\n", url)
		}
	}
	if err == nil {
		<-inv.ctx.Done()
	}
	if closed := node.Close(); err == nil {
		err = closed
	}
	return err
}
