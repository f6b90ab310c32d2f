package substrate

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte/substrate/internal/abi"
	"github.com/taubyte/taubyte/substrate/internal/commands"
	"github.com/taubyte/taubyte/substrate/internal/vm"
)

// openCommands makes the node's part in commands between functions.
func (s *Service) openCommands() {
	s.calls = commands.New(commands.Config{
		Host: s.host, Protocol: peersProtocol, Nodes: s.peers, Changed: s.agent.Changed,
	})
	s.closes = append(s.closes, func() error { s.calls.Close(); return nil })
}

// offer compiles what a deployment says of services, once its functions are made.
func (d *deployment) offer() {
	d.services = commands.NewRules(d.project, func(id commands.Resource) commands.Runner {
		key := resourceKey{id.Application, id.ID}
		f, ok := d.functions[key]
		if !ok {
			return nil
		}
		return func(ctx context.Context, of commands.Resource, c *commands.Call) (abi.Reply, error) {
			for _, g := range []guarded{{resourceKey{of.Application, of.ID}, abi.ResourceService}, {key, abi.ResourceFunctionP2P}} {
				if err := d.allow(ctx, g, nil); err != nil {
					return abi.Reply{}, err
				}
			}
			return runCommand(ctx, f, c)
		}
	})
}

func runCommand(ctx context.Context, f *vm.Function, c *commands.Call) (reply abi.Reply, err error) {
	err = f.Run(ctx, func(g *abi.Guest) uint32 {
		return g.BeginCommand(c.Command, c.From, c.To, c.Depth, &reply)
	}, "protocol", c.Protocol, "command", c.Name, "from", c.From)
	return reply, err
}

// commander sends commands for guests.
type commander struct{ s *Service }

var _ abi.Commands = commander{}

func (c commander) Protocol(from *abi.Self, protocol string) (string, bool) {
	rules := c.s.calls.Rules(commands.Branch(branchOf(from)))
	if rules == nil {
		return "", false
	}
	return rules.Protocol(from.Application, protocol)
}

func (c commander) Send(ctx context.Context, from *abi.Self, command abi.Command, to peer.ID, depth int) (abi.Reply, error) {
	return c.s.calls.Send(ctx, commands.Call{
		Branch: commands.Branch(branchOf(from)), Application: from.Application, Command: command, To: to, Depth: depth + 1,
	})
}

func (c commander) Peers(ctx context.Context, most int) []peer.ID {
	return c.s.calls.Peers(ctx, most)
}
