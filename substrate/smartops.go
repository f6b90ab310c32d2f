package substrate

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/substrate/internal/abi"
	"github.com/taubyte/taubyte/substrate/internal/egress"
	"github.com/taubyte/taubyte/substrate/internal/messages"
	"github.com/taubyte/taubyte/substrate/internal/vm"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// errRefused is the word of a smart operation.
var errRefused = fmt.Errorf("a smart operation says no: %w", taubyte.ErrForbidden)

// A guard is the smart operations that are asked before a resource is used. One
// that says no, fails or was never built keeps the resource from being used.
type guard struct {
	resource abi.Resource
	ops      []resourceKey // by which the deployment has them
}

// A guarded is a resource that may have a guard. Ids are unique within a kind alone.
type guarded struct {
	resourceKey
	kind abi.ResourceKind
}

// allow asks the smart operations of a resource, one after the other. by is the request
// that it is used by, if it is one. The error is errRefused where one of them says no,
// or vm.ErrBusy or vm.ErrGone, or else what became of one.
func (d *deployment) allow(ctx context.Context, resource guarded, by *http.Request) error {
	g, ok := d.guards[resource]
	if !ok {
		return nil
	}
	for _, key := range g.ops {
		op, ok := d.smartOps[key]
		if !ok {
			return fmt.Errorf("smart operation %s: not built yet: %w", key.resource, taubyte.ErrUnavailable)
		}
		result, err := op.Decide(ctx, func(guest *abi.Guest) uint32 { return guest.BeginResource(g.resource, by) }, "resource", g.resource.Name)
		if err != nil {
			return err
		}
		if result != 0 {
			return errRefused
		}
	}
	return nil
}

// admit is allow for a request: where it may not go on, it is answered, unless an error is
// returned that says that it reached nothing.
func (d *deployment) admit(w http.ResponseWriter, r *http.Request, resource guarded) (ok bool, err error) {
	err = d.allow(r.Context(), resource, r)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, errRefused):
		answer(w, http.StatusForbidden, "This is not allowed.")
	case errors.Is(err, vm.ErrBusy), errors.Is(err, vm.ErrGone), errors.Is(err, taubyte.ErrUnavailable):
		return false, err
	default:
		abi.Failure(w, err)
	}
	return false, nil
}

// admitSocket is admit for a WebSocket, by the smart operations of its channel.
func (s *Service) admitSocket(w http.ResponseWriter, r *http.Request, b messages.Branch, hash, channel string) (ok bool, err error) {
	rules := s.hub.Rules(b)
	if rules == nil {
		return true, nil // it will be told that there is nothing
	}
	for _, d := range *s.live.Load() {
		if d.channels != rules {
			continue
		}
		app, ids := rules.Resources(hash, channel)
		for _, id := range ids {
			if ok, err := d.admit(w, r, guarded{resourceKey{app, id}, abi.ResourceMessagingWebSocket}); !ok {
				return false, err
			}
		}
		return true, nil
	}
	return false, fmt.Errorf("branch %s of %s: %w", b.Branch, b.Project, taubyte.ErrUnavailable) // it is being replaced
}

// asks reports whether a store has smart operations.
func (o *shop) asks(store guarded) bool {
	if o.guards == nil {
		return false
	}
	_, ok := o.guards.guards[store]
	return ok
}

// allow asks the smart operations of a store. Those of a deployment that was replaced
// while a function was still running there are gone: then it is for those of the newest.
func (o *shop) allow(ctx context.Context, store guarded) error {
	if o.guards == nil {
		return nil
	}
	err := o.guards.allow(ctx, store, nil)
	if !errors.Is(err, vm.ErrGone) {
		return err
	}
	rules := o.s.hub.Rules(messages.Branch{Project: o.project, Branch: o.branch})
	for _, d := range *o.s.live.Load() {
		if d.channels == rules && rules != nil {
			return d.allow(ctx, store, nil)
		}
	}
	return err
}

// guardAll finds the smart operations of all resources, and makes them ready.
func (s *Service) guardAll(ctx context.Context, d *tns.Deployment, made *deployment, network *egress.Network) error {
	made.guards = map[guarded]guard{}
	made.smartOps = map[resourceKey]*vm.Function{}
	var faults []error
	for scope := range scopes(made.project) {
		with := func(c config.Common, kind abi.ResourceKind) {
			if len(c.SmartOps) == 0 {
				return
			}
			g := guard{resource: abi.Resource{Kind: kind, Name: c.Name, Node: s.host.ID()}}
			for _, id := range c.SmartOps {
				key := resourceKey{scope.id, id}
				g.ops = append(g.ops, key)
				if _, ok := made.smartOps[key]; ok {
					continue
				}
				op, err := s.smartOp(ctx, d, scope, id, network, made.environment)
				if err != nil {
					faults = append(faults, err)
				} else if op != nil {
					made.smartOps[key] = op
				}
			}
			made.guards[guarded{resourceKey{scope.id, c.ID}, kind}] = g
		}
		for _, f := range scope.Functions {
			with(f.Common, kinds[f.Type])
		}
		for _, w := range scope.Websites {
			with(w.Common, abi.ResourceWebsite)
		}
		for _, db := range scope.Databases {
			with(db.Common, abi.ResourceDatabase)
		}
		for _, st := range scope.Storages {
			with(st.Common, abi.ResourceStorage)
		}
		for _, sv := range scope.Services {
			with(sv.Common, abi.ResourceService)
		}
		for _, m := range scope.Messaging {
			with(m.Common, abi.ResourceMessagingWebSocket)
		}
	}
	return errors.Join(faults...)
}

// kinds are those of functions by their triggers.
var kinds = map[string]abi.ResourceKind{
	config.TriggerHTTP: abi.ResourceFunctionHTTP, config.TriggerHTTPS: abi.ResourceFunctionHTTP,
	config.TriggerP2P: abi.ResourceFunctionP2P, config.TriggerPubSub: abi.ResourceFunctionPubSub,
}

// smartOp makes a smart operation ready for the resources of a scope, or nil where it was
// never built.
func (s *Service) smartOp(ctx context.Context, d *tns.Deployment, in scope, id taubyte.ResourceID, network *egress.Network, held *heldEnvironment) (*vm.Function, error) {
	for _, r := range []*config.Resources{in.Resources, in.global} {
		for i := range r.SmartOps {
			if op := &r.SmartOps[i]; op.ID == id {
				app := in.name
				if r == in.global {
					app = ""
				}
				return s.program(ctx, d, in, program{
					kind: "smart operation", id: op.ID, name: op.Name, source: op.Source, call: op.Call,
					timeout: op.Timeout, memory: op.Memory, network: network, decides: true,
					called: environment.FunctionName(app, op.Name), held: held,
				})
			}
		}
	}
	return nil, fmt.Errorf("%w: there is no smart operation %s", taubyte.ErrInvalid, id)
}
