package substrate

import (
	"context"

	"github.com/taubyte/taubyte/seer"
	"github.com/taubyte/taubyte/substrate/wire"
)

// join makes the node one that others know of.
func (s *Service) join(ctx context.Context) error {
	agent, err := seer.Join(ctx, s.host, seer.WithLogger(s.log))
	if err != nil {
		return err
	}
	s.agent = agent
	forget := agent.Report(s.report)
	s.closes = append(s.closes, func() error {
		forget()
		return agent.Close()
	})
	return nil
}

// report tells the directory how busy the node is.
func (s *Service) report(load *seer.Load) {
	load.InFlight += int(s.inFlight.Load())
	load.Queued += s.engine.Queued()
	load.Warm = wire.Digest(s.engine.Modules())
}
