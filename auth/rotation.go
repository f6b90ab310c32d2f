package auth

import (
	"context"
	"fmt"
	"strings"

	"github.com/taubyte/taubyte"
)

// A Rotation says how far the replacement of one of the network's keys is.
type Rotation struct {
	Kind    taubyte.KeyKind       `json:"kind"`
	Stage   taubyte.RotationStage `json:"stage,omitempty"` // none once the old key is retired
	Version uint64                `json:"version"`         // of the network's description
	// CutOff are the members that were left behind, by force.
	CutOff []taubyte.Membership `json:"cutOff,omitempty"`
}

// RotateKey takes the replacement of a key of the network one step further: a new key
// is introduced, then used, then the old one is refused. A step is refused while a member
// is not known to have heard of the one before, or, before a root is retired, shows no
// membership of the new one; force leaves those behind, who then have to be made members
// again. When it returns, the step has been kept on this node and is on its way to the
// others.
//
// For nodes of role auth, and the verb administer on everything. ErrUnavailable: members would be left
// behind, which the error names, or this node has no authority. ErrConflict: another
// auth node has just done a step.
func (s *Service) RotateKey(ctx context.Context, kind taubyte.KeyKind, force bool) (Rotation, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, "", taubyte.RoleAuth); err != nil {
		return Rotation{}, err
	}
	if s.authority == nil {
		return Rotation{}, s.noAuthority()
	}
	members := s.host.Members()
	var done Rotation
	before := members.Network()
	begun := kind == taubyte.KeySwarm && before.SwarmStage != taubyte.StageNone || kind == taubyte.KeyRoot && before.RootStage != taubyte.StageNone
	if begun {
		done.CutOff = members.Behind(ctx, kind)
	}
	if len(done.CutOff) > 0 && !force {
		var names []string
		for _, m := range done.CutOff {
			if m.Name == "" {
				names = append(names, m.Peer.String())
			} else {
				names = append(names, m.Name)
			}
		}
		return Rotation{}, fmt.Errorf("%w: %s have not confirmed the network's keys of version %d: they would be cut off",
			taubyte.ErrUnavailable, strings.Join(names, ", "), before.Version)
	}
	signed, next, err := s.authority.Rotate(kind)
	if err != nil {
		return Rotation{}, err
	}
	if err := members.Adopt(ctx, signed, next); err != nil {
		return Rotation{}, err
	}
	n := members.Network()
	done.Kind, done.Version, done.Stage = kind, n.Version, n.SwarmStage
	if kind == taubyte.KeyRoot {
		done.Stage = n.RootStage
	}
	s.log.Warn("key of the network rotated", "kind", kind, "stage", done.Stage, "version", done.Version, "cut off", len(done.CutOff))
	return done, nil
}
